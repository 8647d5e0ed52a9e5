"""Answers to bring along: JSON Lines as events and submissions, checked as a whole before anything is sent."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Self
from uuid import uuid4

from pydantic import ConfigDict, Field, StringConstraints, ValidationError, model_validator

from shared.errors import InvalidRequest
from shared.events import CacheWarm, Prompt, Request, Submission, Text, Word
from shared.faults import told
from shared.policy import Policy

MOST_FAULTS: Final = 20


class Line(Submission):
    """A submission and, where its answer is known already, the answer."""

    model_config = ConfigDict(extra="forbid")

    tenant: Word | None = None
    output_text: Prompt | None = None
    category: str | None = None
    answered_by: Annotated[Text, StringConstraints(min_length=1, max_length=200)] | None = None
    cost_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _says_of_an_answer_only_what_it_brings(self) -> Self:
        if self.output_text is None:
            for name in ("category", "answered_by", "cost_usd"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is said of an answer, and there is no output_text")
        return self


_ABOUT_THE_ANSWER: Final = set(Line.model_fields) - set(Submission.model_fields)


@dataclass(frozen=True, slots=True)
class Load:
    """What a file holds.

    Attributes:
        brought: answers that become entries.
        to_buy: submissions without an answer, by tenant.
    """

    brought: list[CacheWarm] = field(default_factory=list)
    to_buy: Mapping[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))


def load(path: Path, policy: Policy, *, tenant: str, category: str | None, now: datetime) -> Load:
    """Read a file; ``tenant`` and ``category`` are for the lines that name none.

    Raises:
        InvalidRequest: lines are wrong; the message has one line for each, with its number.
    """
    found, wrong = Load(), []
    for number, text in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not text.strip():
            continue
        try:
            line = Line.model_validate_json(text, strict=True)
            _take(found, line, policy, line.tenant or tenant, line.category or category, now)
        except ValidationError as error:
            wrong.append(f"line {number}: {told(error, most=1)}")
        except InvalidRequest as error:
            wrong.append(f"line {number}: {error.message}")
    if len(wrong) > MOST_FAULTS:
        wrong[MOST_FAULTS:] = [f"and {len(wrong) - MOST_FAULTS} more"]
    if wrong:
        raise InvalidRequest("nothing was sent:\n" + "\n".join(wrong))
    return found


def _take(found: Load, line: Line, policy: Policy, tenant: str, category: str | None, now: datetime) -> None:
    try:
        tier = policy.tier_of(line.model) or policy.router.default
    except KeyError:
        raise InvalidRequest(f"model: the policy knows no {line.model!r}") from None
    submission = line.model_dump(mode="json", exclude=_ABOUT_THE_ANSWER, exclude_unset=True)
    if line.output_text is None:
        found.to_buy[tenant].append(submission)
        return
    if category is not None and category not in policy.freshness.categories:
        raise InvalidRequest(f"category: {category!r} is none; known: {', '.join(policy.freshness.categories)}")
    if not policy.freshness.ttl_of(category or policy.freshness.default_of(tenant).category, tenant):
        raise InvalidRequest(f"category: the policy never keeps these answers of {tenant!r}: its ttl is none")
    digest = hashlib.sha256(line.model_dump_json(exclude_unset=True).encode()).hexdigest()
    of = {"id": uuid4(), "tenant": tenant, "accepted_at": now, "digest": digest, "priority": "bulk"}
    found.brought.append(
        CacheWarm(
            request=Request.model_validate(submission | of),
            output_text=line.output_text,
            tier=tier,
            category=category,
            **line.model_dump(include={"answered_by", "cost_usd"}, exclude_none=True),
        )
    )


def batches(events: Sequence[CacheWarm], size: int) -> Sequence[Sequence[CacheWarm]]:
    """The events in parts of a size."""
    return [events[start : start + size] for start in range(0, len(events), size)]
