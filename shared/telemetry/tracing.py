"""W3C trace context (``traceparent``), carried from event to event.

Only the identifiers are carried; spans are exported by whoever wants them later.
"""

import re
import secrets
from contextvars import ContextVar
from typing import Final

HEADER: Final = "traceparent"
# Version 00 ends after the flags; later versions may go on with a dash; ff is invalid.
_FORM: Final = re.compile(
    r"(?:00|(?P<later>(?!00|ff)[0-9a-f]{2}))-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?(later)(?:-.*)?)"
)
_current: ContextVar[str | None] = ContextVar("traceparent", default=None)


def resume(traceparent: object) -> str:
    """Make a received ``traceparent`` the current one, or start a new trace; returns the trace id (32 hex digits)."""
    match = _FORM.fullmatch(traceparent) if isinstance(traceparent, str) else None
    trace_id, flags = match.group(2, 3) if match else (secrets.token_hex(16), "01")
    _current.set(f"00-{trace_id}-{secrets.token_hex(8)}-{flags}")
    return trace_id


def child() -> str:
    """The ``traceparent`` to send along: the current trace, or a new one where there is none."""
    if _current.get() is None:
        resume(None)
    current = _current.get()
    assert current is not None
    return current
