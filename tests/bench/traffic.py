"""Requests and their answers as they come to the writer, for benches."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from services.ingest.identity import Identities
from shared.events import CacheVerdict, Event
from tests.support import make

PROMPT: Final = "What is the capital of France, and since when has it been so, apart from interruptions?"
SENTENCE: Final = "Paris is the capital of France, and has been so, with interruptions, since the tenth century. "
# Ids begin with the time: so many of them share a millisecond, as at a busy door.
PER_MS: Final = 5
_IDENTITIES: Final = Identities("the secret of a bench")


def traffic(requests: int, *, answer_chars: int = 300) -> Iterator[Event]:
    """Accepted requests, each followed by its answer, all of them new."""
    request = make.request(PROMPT, digest="0" * 64)
    answer = make.completed(
        request,
        output_text=(SENTENCE * (answer_chars // len(SENTENCE) + 1))[:answer_chars],
        lane="light-1",
        verdict=CacheVerdict(tier="miss", reason="nothing near", similarity=0.61),
    )
    began = datetime.now(UTC)
    for number in range(requests):
        now = began + timedelta(milliseconds=number // PER_MS)
        request_id = _IDENTITIES.new(request.tenant, now)
        yield make.accepted(request.model_copy(update={"id": request_id, "accepted_at": now}))
        yield answer.model_copy(update={"request_id": request_id, "accepted_at": now, "completed_at": now})
