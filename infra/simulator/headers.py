"""What OpenAI's headers tell about limits, in its formats."""

import math
from collections.abc import Iterable
from typing import Final

from infra.simulator.lane import Standing

SECOND_MS: Final = 1000


def ratelimit(standings: Iterable[Standing], scale: float) -> dict[str, str]:
    """``x-ratelimit-…`` as the client's clock has it: ``scale`` simulated seconds pass in one of its own."""
    told = {}
    for standing in standings:
        told[f"x-ratelimit-limit-{standing.of}"] = f"{standing.per_minute * scale:.0f}"
        told[f"x-ratelimit-remaining-{standing.of}"] = str(standing.remaining)
        told[f"x-ratelimit-reset-{standing.of}"] = duration(standing.full_in_s / scale)
    return told


def retry_after(seconds: float) -> dict[str, str]:
    """When to come back, never too early: whole seconds in ``Retry-After``, and milliseconds as OpenAI has them."""
    return {"Retry-After": str(math.ceil(seconds)), "retry-after-ms": str(math.ceil(seconds * SECOND_MS))}


def duration(seconds: float) -> str:
    """A duration as OpenAI writes it, to the millisecond, rounded up: ``120ms``, ``1s``, ``8.64s``, ``6m0s``."""
    milliseconds = math.ceil(seconds * SECOND_MS - 1e-6)
    if milliseconds < SECOND_MS:
        return f"{milliseconds}ms" if milliseconds > 0 else "0s"
    minutes, left = divmod(milliseconds, 60 * SECOND_MS)
    hours, minutes = divmod(minutes, 60)
    written = f"{left / SECOND_MS:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{written}"
    return f"{minutes}m{written}" if minutes else written
