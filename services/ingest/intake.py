"""What both doors share: is this a request we can take, and which event says so."""

import hashlib
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel, TypeAdapter, ValidationError

from shared.clock import Clock
from shared.errors import InvalidRequest, RequestTooLarge
from shared.events import (
    DEFAULT_TENANT,
    CacheControl,
    Priority,
    ReplyAddress,
    Request,
    RequestAccepted,
    Submission,
    Turn,
    Word,
    WrittenTurn,
)
from shared.faults import faults
from shared.policy import Policy

_TENANT: TypeAdapter[str] = TypeAdapter(Word)
_NOTHING_SAID = CacheControl()
M = TypeVar("M", bound=BaseModel)


class Intake:
    """Turns bodies into accepted requests."""

    def __init__(self, policy: Policy, clock: Clock, *, max_body_bytes: int) -> None:
        self._policy = policy
        self._clock = clock
        self._max_body_bytes = max_body_bytes

    def parse(self, body: bytes) -> Submission:
        """Read and validate a body.

        Raises:
            RequestTooLarge: it has more than ``max_body_bytes``.
            InvalidRequest: with a pointer to the first part that is wrong.
        """
        self.check_size(len(body))
        submission = parsed(Submission, body)
        self._check_against_policy(submission)
        return submission

    def check_size(self, size: int) -> None:
        """Raise RequestTooLarge for more than ``max_body_bytes``."""
        if size > self._max_body_bytes:
            raise RequestTooLarge(f"the body has more than {self._max_body_bytes} bytes")

    def _check_against_policy(self, submission: Submission) -> None:
        tiers = self._policy.tiers
        try:
            tier = self._policy.tier_of(submission.model)
        except KeyError:
            known = ", ".join(self._policy.names)
            raise InvalidRequest(f"unknown model {submission.model!r}; known: {known}", pointer="/model") from None
        most = tiers[tier].max_output_tokens if tier else max(t.max_output_tokens for t in tiers.values())
        if submission.max_output_tokens is not None and submission.max_output_tokens > most:
            raise InvalidRequest(f"must be at most {most}", pointer="/max_output_tokens")
        if submission.deadline is not None and submission.deadline <= self._clock.now():
            raise InvalidRequest("must be in the future", pointer="/deadline")

    def accept(
        self,
        submission: Submission,
        *,
        request_id: UUID,
        tenant: str,
        priority: Priority,
        reply: ReplyAddress | None = None,
        cache_control: CacheControl = _NOTHING_SAID,
    ) -> RequestAccepted:
        """The event that says this request was taken."""
        said = submission.input
        request = Request.model_construct(
            **dict(submission) | {"input": said if isinstance(said, str) else tuple(map(_taken, said))},
            id=request_id,
            tenant=tenant,
            priority=priority,
            accepted_at=self._clock.now(),
            digest=digest(submission),
            reply=reply,
            cache_control=cache_control,
        )
        return RequestAccepted(request=request)


def parsed(model: type[M], body: bytes) -> M:
    """A body as an instance of a model; raises InvalidRequest with a pointer to the first part that is wrong."""
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise _first_fault(error) from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None


def _taken(turn: WrittenTurn) -> Turn:
    return Turn(role=turn.role, content=turn.content)


def digest(submission: Submission) -> str:
    """SHA-256 of what was asked, in hexadecimal: equal for bodies that differ in spelling only."""
    return hashlib.sha256(submission.model_dump_json(exclude_defaults=True).encode()).hexdigest()


def tenant_named(name: str | None, *, pointer: str) -> str:
    """A tenant by name, or the default one; raises InvalidRequest."""
    if not name:
        return DEFAULT_TENANT
    try:
        return _TENANT.validate_python(name)
    except ValidationError:
        message = f"{name[:80]!r} is no tenant: use up to 64 of a-z, 0-9, - and _, beginning with a letter or digit"
        raise InvalidRequest(message, pointer=pointer) from None


def priority_named(name: str | None, *, pointer: str) -> Priority:
    """A priority by name, or interactive; raises InvalidRequest."""
    try:
        return Priority(name or Priority.INTERACTIVE)
    except ValueError:
        message = f"{(name or '')[:80]!r} is no priority; known: {', '.join(Priority)}"
        raise InvalidRequest(message, pointer=pointer) from None


def _first_fault(error: ValidationError) -> InvalidRequest:
    fault = faults(error)[0]
    path = list(fault.path)
    if path[:1] == ["input"]:
        path[1:2] = []  # the name of the union's branch, which is no part of the body
    pointer = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)
    return InvalidRequest(fault.message, pointer=pointer)
