"""What a provider says of its limits in the headers of each answer: OpenAI's names, and Anthropic's."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

_DURATION: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS_S: Final = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
MINUTE_S: Final = 60.0
# A limit that fills up so much slower than one per minute would is one per day: no pace follows from it.
SLOWER: Final = 0.1


@dataclass(frozen=True, slots=True)
class Allowance:
    """One limit: calls or tokens."""

    limit: float
    remaining: float
    reset_s: float | None

    @property
    def per_second(self) -> float | None:
        """What it allows per second, if it is one per minute, as providers state it; None for one per day."""
        used = self.limit - self.remaining
        if self.reset_s and used > 0 and used / self.reset_s < SLOWER * self.limit / MINUTE_S:
            return None
        return self.limit / MINUTE_S


@dataclass(frozen=True, slots=True)
class Said:
    """Both limits, as far as they were told."""

    calls: Allowance | None
    tokens: Allowance | None


def said(headers: Mapping[str, str], *, now: datetime | None = None) -> Said | None:
    """The limits in the headers of an answer; None where there are none."""
    lower = {name.lower(): value for name, value in headers.items()}
    calls, tokens = _allowance(lower, "requests", now), _allowance(lower, "tokens", now)
    return None if calls is None and tokens is None else Said(calls, tokens)


def _allowance(
    headers: Mapping[str, str], what: Literal["requests", "tokens"], now: datetime | None
) -> Allowance | None:
    for limit, remaining, reset in (
        (f"x-ratelimit-limit-{what}", f"x-ratelimit-remaining-{what}", f"x-ratelimit-reset-{what}"),
        *((f"anthropic-ratelimit-{what}-{part}" for part in ("limit", "remaining", "reset")),),
    ):
        try:
            numbers = float(headers[limit]), float(headers[remaining])
        except (KeyError, ValueError):
            continue
        if all(map(math.isfinite, numbers)) and numbers[0] > 0:  # some say -1 for "no limit"
            return Allowance(*numbers, seconds(headers.get(reset, ""), now))
    return None


def seconds(text: str, now: datetime | None = None) -> float | None:
    """Seconds of a duration such as ``6m0s``, ``120ms`` or ``1.5``, or until a time (RFC 3339); None for others."""
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        return max(0.0, number) if math.isfinite(number) else None
    match = _DURATION.fullmatch(text)
    if match is not None and match[0]:
        return sum(float(part) * unit for part, unit in zip(match.groups(), _UNITS_S, strict=True) if part)
    try:
        return max(0.0, (datetime.fromisoformat(text) - (now or datetime.now(UTC))).total_seconds())
    except (ValueError, TypeError):
        return None
