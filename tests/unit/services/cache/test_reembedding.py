"""Moving entries to another embedder: under which keys, with whose time, how often, and what stops it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import numpy as np

from services.cache.reembedding import AGAIN_S, BATCH, PASSES, PAUSE_S, SQL, Reembedding
from services.cache.scope import exact_of, scope_of
from shared import envelope
from shared.background import background
from shared.embedding.builtin import MODEL, Vectors
from shared.embedding.remote import EmbedderUnavailable
from shared.errors import BrokerUnavailable
from shared.events import CacheFilled
from shared.memory import MemoryBroker
from shared.topology import topology
from shared.vectors import decode_vector
from tests.support.clock import START, HurriedClock, settled

if TYPE_CHECKING:
    from shared.database import Pool

NAMES = {sql: name for name, sql in SQL.items()}
Row = dict[str, Any]


def row(number: int, prompt: str = "Where is Paris?", **changes: Any) -> Row:
    return {
        "entry_id": UUID(int=number),
        "base": UUID(int=1000 + number),
        "scope": UUID(int=2000 + number),
        "tenant": "acme",
        "prompt": prompt,
        "answer": f"Answer {number}.",
        "model": "local/tiny",
        "tier": "light",
        "category": "static",
        "cost_usd": 0.25,
        "reason": "nothing changes",
        "stored_at": START - timedelta(hours=1),
        "expires_at": START + timedelta(hours=2),
    } | changes


class Database:
    """The few statements of the job, on a list of rows.

    Attributes:
        keeps: whether what is announced is written.
        locked: whether another replica has the lock.
        fails: errors of the next statements.
    """

    def __init__(self, *rows: Row) -> None:
        self.rows = list(rows)
        self.present: set[tuple[UUID, UUID]] = set()
        self.locked = False
        self.fails: list[Exception] = []
        self.arguments: list[tuple[str, tuple[Any, ...]]] = []

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator["Database"]:
        yield self

    def _note(self, statement: str, arguments: tuple[Any, ...]) -> str:
        self.arguments.append((NAMES[statement], arguments))
        if self.fails:
            raise self.fails.pop(0)
        return NAMES[statement]

    async def fetchval(self, statement: str, *arguments: Any) -> Any:
        return not self.locked if self._note(statement, arguments) == "lock" else len(self.rows)

    async def fetch(self, statement: str, *arguments: Any) -> Sequence[Mapping[str, Any]]:
        if self._note(statement, arguments) == "present":
            asked = set(zip(*arguments, strict=True))
            return [{"scope": scope, "exact": exact} for scope, exact in self.present & asked]
        *_, entry_id, scope, limit = arguments
        return [found for found in self.rows if (found["entry_id"], found["scope"]) > (entry_id, scope)][:limit]

    def written(self, events: Sequence[CacheFilled]) -> None:
        self.present |= {(event.key.scope, event.key.exact) for event in events}


class FakeEmbedder:
    version = "local/vectors/2"

    def __init__(self, *script: Exception) -> None:
        self.script = list(script)
        self.asked: list[list[str]] = []

    async def embed_each(self, texts: Sequence[str]) -> Sequence[Vectors | None]:
        self.asked.append(list(texts))
        if self.script:
            raise self.script.pop(0)
        return [None if "refused" in text else np.array([0.6, 0.8], dtype=np.float32) for text in texts]


class Scene:
    """A job and what it is made of; the writer keeps what is announced unless told otherwise."""

    def __init__(
        self, *rows: Row, embedder: FakeEmbedder | None = None, previous: str = "builtin", keeps: bool = True
    ) -> None:
        self.database = Database(*rows)
        self.embedder = embedder or FakeEmbedder()
        self.clock = HurriedClock()
        self.broker = MemoryBroker()
        self.keeps = keeps
        self.job = Reembedding(
            cast("Pool", self.database),
            self.embedder,
            self.broker,
            self.clock,
            previous=previous,
            max_prompt_chars=50,
        )

    async def run(self) -> list[CacheFilled]:
        await self.broker.declare(topology(["light"]))
        publish = self.broker.publish

        async def published(messages: Any) -> None:
            await publish(messages)
            if self.keeps:
                self.database.written(self.events)

        self.broker.publish = published  # type: ignore[method-assign]  # the writer, in one line
        await self.job.run()
        return self.events

    @property
    def events(self) -> list[CacheFilled]:
        return [cast("CacheFilled", envelope.decode(message)) for message in self.broker.published]


async def test_an_entry_moves_with_its_id_its_time_and_its_answer() -> None:
    (event,) = await Scene(row(1)).run()
    assert event.origin == "reembed"
    assert (event.entry_id, event.tenant, event.output_text) == (UUID(int=1), "acme", "Answer 1.")
    assert (event.model, event.tier, event.cost_usd) == ("local/tiny", "light", 0.25)
    assert event.completed_at == START - timedelta(hours=1)
    assert event.completed_at + timedelta(seconds=event.freshness.ttl_s) == START + timedelta(hours=2)
    assert (event.freshness.category, event.freshness.reason) == ("static", "nothing changes")


async def test_its_key_is_that_of_a_request_under_the_new_embedder() -> None:
    (event,) = await Scene(row(1)).run()
    scope = scope_of(UUID(int=1001), "local/vectors/2")
    assert (event.key.scope, event.key.exact) == (scope, exact_of(scope, "Where is Paris?"))
    assert (event.key.base, event.key.embedder) == (UUID(int=1001), "local/vectors/2")
    assert event.key.embedding is not None
    assert np.allclose(decode_vector(event.key.embedding), [0.6, 0.8], atol=1e-3)


async def test_what_cannot_be_embedded_still_moves_for_exact_matches() -> None:
    scene = Scene(row(1, "x" * 51), row(2, "refused"), row(3))
    events = await scene.run()
    assert [event.key.embedding is None for event in events] == [True, True, False]
    assert scene.embedder.asked == [["refused", "Where is Paris?"]]


async def test_where_nothing_can_be_embedded_the_policy_may_be_at_fault_and_nothing_moves_without_a_vector() -> None:
    scene = Scene(row(1, "x" * 51), row(2, "refused"), row(3, "refused too"))
    assert [event.entry_id for event in await scene.run()] == [UUID(int=1)]


async def test_it_is_slow_and_tells_how_far_it_is() -> None:
    scene = Scene(*(row(number) for number in range(1, 2 * BATCH + 2)))
    assert len(await scene.run()) == 2 * BATCH + 1
    assert [len(texts) for texts in scene.embedder.asked] == [BATCH, BATCH, 1]
    assert scene.clock.slept == [PAUSE_S] * 3 + [AGAIN_S]


async def test_what_is_there_already_is_neither_paid_for_nor_announced_again() -> None:
    scene = Scene(row(1), row(2))
    scope = scope_of(UUID(int=1001), "local/vectors/2")
    scene.database.present = {(scope, exact_of(scope, "Where is Paris?"))}
    assert [event.entry_id for event in await scene.run()] == [UUID(int=2)]


async def test_two_entries_with_one_prompt_get_its_vector_both() -> None:
    events = await Scene(row(1), row(2)).run()
    assert len(events) == 2
    assert events[0].key.embedding == events[1].key.embedding is not None


async def test_it_ends_when_nothing_is_left() -> None:
    scene = Scene()
    assert await scene.run() == []
    assert scene.clock.slept == []


async def test_what_the_writer_does_not_keep_is_not_paid_for_for_ever() -> None:
    assert len(await Scene(row(1), keeps=False).run()) == PASSES


async def test_it_waits_for_what_is_away_and_goes_on() -> None:
    scene = Scene(row(1), embedder=FakeEmbedder(EmbedderUnavailable("away")))
    scene.database.fails = [OSError("away")]
    assert len(await scene.run()) == 1
    assert scene.clock.slept[:2] == [AGAIN_S, AGAIN_S]


async def test_a_broker_that_is_away_is_waited_for() -> None:
    scene = Scene(row(1))
    await scene.broker.declare(topology(["light"]))
    publish, failures = scene.broker.publish, [BrokerUnavailable("away")]

    async def failing(messages: Any) -> None:
        if failures:
            raise failures.pop()
        await publish(messages)
        scene.database.written(scene.events)

    scene.broker.publish = failing  # type: ignore[method-assign]  # away once
    await scene.job.run()
    assert len(scene.events) == 1


async def test_where_a_mistake_in_it_was_passing_it_begins_anew_and_goes_on() -> None:
    scene = Scene(row(1), embedder=FakeEmbedder(ZeroDivisionError()))
    over = asyncio.Event()

    async def work() -> None:
        await scene.run()
        over.set()

    async with background(work, name="reembedding", clock=scene.clock):
        await over.wait()
    assert [event.entry_id for event in scene.events] == [UUID(int=1)]


async def test_one_replica_at_a_time() -> None:
    scene = Scene(row(1))
    scene.database.locked = True
    task = asyncio.create_task(scene.run())
    await settled()
    assert scene.events == []
    scene.database.locked = False
    await task
    assert len(scene.events) == 1


async def test_it_ends_with_its_service() -> None:
    scene = Scene(row(1))
    scene.database.locked = True
    async with background(scene.job.run, name="reembedding"):
        await settled()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_previous_embedder_is_named_as_in_the_policy() -> None:
    for previous, meant in (("builtin", MODEL), ("local/old", "local/old"), ("local/old/8", "local/old/8")):
        scene = Scene(previous=previous)
        await scene.run()
        (counted,) = (arguments for name, arguments in scene.database.arguments if name == "count")
        assert counted[1:] == ("local/vectors/2", meant)
