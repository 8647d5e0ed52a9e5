"""What a call is answered with, before it is brought to the client."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from infra.simulator import headers, openai
from infra.simulator.lane import Refusal
from infra.simulator.scenario import Fault, FaultKind

# Types and codes as OpenAI has them, where it has any.
_ERRORS: Final[Mapping[int, tuple[str, str | None]]] = {
    400: ("invalid_request_error", None),
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    408: ("timeout", None),
    409: ("conflict_error", None),
    413: ("request_too_large", None),
    422: ("invalid_request_error", None),
    429: ("requests", "rate_limit_exceeded"),
    529: ("overloaded_error", None),
}
# whole: to its end; cut: the connection breaks in the middle; reset: before anything was said; hang: nothing ever is.
Course = Literal["whole", "cut", "reset", "hang"]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer or an error.

    Attributes:
        pieces: the body, cut where it pauses.
        wait_s: simulated seconds before the first byte.
        pause_s: simulated seconds between two pieces.
    """

    status: int = 200
    pieces: tuple[bytes, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"
    wait_s: float = 0.0
    pause_s: float = 0.0
    course: Course = "whole"


def of_json(body: object, status: int = 200, told: Mapping[str, str] | None = None, wait_s: float = 0.0) -> Reply:
    """A reply with a JSON body."""
    return Reply(status, (json.dumps(body).encode(),), told or {}, wait_s=wait_s)


def refused(refusal: Refusal, scale: float, *, tell_when: bool) -> Reply:
    """429, in OpenAI's words; ``scale`` simulated seconds pass in one of the client's."""
    if refusal.over == "concurrency":
        message = f"Too many concurrent requests for this key: Limit {refusal.limit:.0f}."
        return of_json(openai.error(message, "requests", code="rate_limit_exceeded"), 429)
    short = {"requests": "RPM", "tokens": "TPM"}[refusal.over]
    asked = f"{refusal.over} per min ({short}): Limit {refusal.limit * scale:.0f}, Requested {refusal.asked:.0f}."
    if refusal.wait_s is None:
        message = f"Request too large for this key on {asked} It can never be taken: ask for fewer tokens."
        return of_json(openai.error(message, refusal.over, code="rate_limit_exceeded"), 429)
    wait_s = refusal.wait_s / scale
    message = f"Rate limit reached for this key on {asked} Please try again in {headers.duration(wait_s)}."
    told = headers.retry_after(wait_s) if tell_when else {}
    return of_json(openai.error(message, refusal.over, code="rate_limit_exceeded"), 429, told)


def failed(fault: Fault, scale: float, *, tell_when: bool) -> Reply:
    """What a fault that stands before the limits says, if it says anything."""
    match fault.kind:
        case "reset":
            return Reply(course="reset")
        case "hang":
            return Reply(course="hang")
        case "content_refused":
            message = "Your request was rejected as a result of our safety system."
            return of_json(openai.error(message, "invalid_request_error", code="content_policy_violation"), 400)
        case "context_window":
            message = "This model's maximum context length is 8192 tokens. Please reduce the length of the messages."
            body = openai.error(message, "invalid_request_error", code="context_length_exceeded", param="messages")
            return of_json(body, 400)
        case _:
            assert fault.status is not None, f"{fault.kind} spoils answers"
            type_, code = _ERRORS.get(fault.status, ("server_error", None))
            body = openai.error(f"A simulated error {fault.status}.", type_, code=code)
            wait_s = fault.retry_after_s if tell_when else None
            return of_json(body, fault.status, {} if wait_s is None else headers.retry_after(wait_s / scale))


def answered(done: openai.Completed, *, stream: bool, usage: bool, latency_s: float) -> Reply:
    """A whole completion; a stream spreads its words over the latency."""
    if not stream:
        return of_json(openai.completion(done), wait_s=latency_s)
    pieces = tuple(openai.chunks(done, usage=usage))
    step_s = latency_s / len(pieces)
    return Reply(pieces=pieces, media_type="text/event-stream", wait_s=step_s, pause_s=step_s)


def spoiled(reply: Reply, kind: FaultKind, drip_s: float) -> Reply:
    """An answer as it comes where it drips, is cut or is no JSON; with any other fault as it is."""
    if kind == "drip":
        return replace(reply, pieces=tuple(bytes([byte]) for byte in b"".join(reply.pieces)), pause_s=drip_s)
    if kind == "cut":
        return replace(reply, pieces=_in_two(reply.pieces), course="cut")
    if kind == "malformed":
        return replace(reply, pieces=(_in_two(reply.pieces[:1])[0] + b"\n\n",))
    return reply


def _in_two(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The same in two pieces at the least."""
    if len(pieces) > 1:
        return pieces
    half = len(pieces[0]) // 2
    return pieces[0][:half], pieces[0][half:]
