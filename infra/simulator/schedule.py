"""What of a scenario holds at a time."""

from collections.abc import Iterator, Sequence
from typing import Final

from infra.simulator.scenario import Limits, Window

UNLIMITED: Final = Limits()


def limits_at(entries: Sequence[Limits], key: str, now_s: float) -> Limits:
    """The limits of a key: of the entries that have begun, the latest for this key, else the latest for all."""
    begun = [entry for entry in entries if entry.from_s <= now_s and entry.key in (None, key)]
    return max(begun, key=lambda entry: (entry.key is not None, entry.from_s), default=UNLIMITED)


def windows_at(windows: Sequence[Window], key: str, now_s: float) -> Iterator[tuple[int, Window]]:
    """The windows a key is in, as they are listed, each with its place in the list."""
    for place, window in enumerate(windows):
        begun = window.from_s <= now_s and (window.to_s is None or now_s < window.to_s)
        if begun and window.key in (None, key):
            yield place, window
