"""The whole brownout ladder, and how old queues are said to be."""

from typing import Any, Final
from uuid import UUID

from shared.events import QueueAged
from tests.support import make

LADDER: Final[dict[str, Any]] = {
    "cheaper_tier": {"from": "10s"},
    "stale_answers": {"from": "30s", "up_to": "1h"},
    "longer_deadline": {"from": "60s", "by": "5m"},
    "shed_bulk": {"from": "2m"},
}
ONE, OTHER = UUID(int=1), UUID(int=2)


def aged(replica: UUID = ONE, /, **ages: float) -> QueueAged:
    """``queue.aged`` of a replica of ingest, in seconds by tier."""
    return QueueAged(telling_id=make.new_id(), replica=replica, ages=ages)
