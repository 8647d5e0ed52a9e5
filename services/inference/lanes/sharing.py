"""Who shares a lane, and how much of it is whose: max-min fair, by what each replica can use.

Each replica says every second what it wants of each lane and what it saw there. What is wanted is served in full where
there is enough; else everybody gets as much as the next, and nobody more than it wants. Who says nothing for some
seconds is gone, and its share goes to the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.events import LaneReport

# A replica that was not heard for so long is gone.
GONE_S: Final = 4.0
# What a replica counts for that wants nothing: enough to begin at once when work comes, until the others have heard.
IDLE: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Heard:
    at_s: float
    reports: Mapping[str, LaneReport]


class Sharing:
    """The replicas there are, and the share of this one."""

    def __init__(self, me: UUID) -> None:
        self.me = me
        self._peers: dict[UUID, _Heard] = {}

    def heard(self, replica: UUID, reports: Mapping[str, LaneReport], now_s: float) -> bool:
        """Take note of what another replica says; True if it was not known before."""
        new = replica not in self._peers
        self._peers[replica] = _Heard(now_s, reports)
        return new

    def left(self, replica: UUID) -> None:
        """A replica says that it ends."""
        self._peers.pop(replica, None)

    def replicas(self, now_s: float) -> int:
        """How many there are, this one included."""
        return 1 + len(self._present(now_s))

    def share(self, lane: str, wants: float, rate: float, now_s: float) -> float:
        """The part of a lane's rate, 0 to 1, that is this replica's.

        Args:
            lane: its name.
            wants: calls per second that this replica could use.
            rate: calls per second that the lane gives.
            now_s: monotonic.
        """
        peers = self._present(now_s)
        others = [heard.reports[lane].wants if lane in heard.reports else 0.0 for heard in peers]
        least = IDLE * rate / (1 + len(peers))
        return max_min([max(least, wants), *(max(least, each) for each in others)], rate)[0] / rate

    def _present(self, now_s: float) -> list[_Heard]:
        self._peers = {who: heard for who, heard in self._peers.items() if now_s - heard.at_s < GONE_S}
        return list(self._peers.values())


def max_min(wants: Sequence[float], total: float) -> list[float]:
    """Shares of a total, max-min fair (Bertsekas and Gallager, Data Networks, section 6.5.2), in their order.

    What is left when all have what they want is shared evenly: wants change sooner than news of them travels.
    """
    shares = [0.0] * len(wants)
    left = total
    for taken, index in enumerate(sorted(range(len(wants)), key=wants.__getitem__)):
        shares[index] = min(wants[index], left / (len(wants) - taken))
        left -= shares[index]
    return [share + left / len(wants) for share in shares]
