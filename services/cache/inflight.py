"""Requests in flight, over all replicas: near-equal prompts wait for one answer.

Each replica follows ``request.missed`` and the terminal events, and keeps what is under way in memory. The first of
several near-equal requests leads; the others wait, unacknowledged in the broker, so that a killed replica loses none of
them. A leader that fails frees its followers, and the first of them to wake leads in its place; where the very prompt
is at fault, those who asked the same fail with it. Two replicas that get the first two of them at the same instant may
both lead: that costs one call, never an answer.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final
from uuid import UUID

import numpy as np

from shared.clock import Clock
from shared.embedding.builtin import Vectors
from shared.events import CacheKey, Event, RequestMissed, ResponseCompleted, ResponseFailed
from shared.vectors import decode_vector

# Seconds a finished answer is kept at the most: longer than it takes to become a cache entry in a calm system.
ANSWERED_KEPT_S: Final = 10.0
SWEEP_EVERY_S: Final = 1.0
# Beyond these, requests go their own way: memory and the time of the event loop are bounded.
MOST_LEADERS: Final = 20_000
MOST_COMPARED: Final = 500
MOST_VERIFIED: Final = 3


@dataclass(eq=False)
class Leader:
    """A request whose answer others may share.

    Attributes:
        key: of its prompt; without its text where that is too long to be near to another.
        leading: whether a handler of this replica is at work on it.
        announced: whether the broker has its ``request.missed``, so that a redelivery of it waits instead of leading.
        borrows: whether it waits for the answer of a near prompt itself; who is near to it may be far from that one.
        expires: seconds on the monotonic clock after which nobody waits for it any more.
        failure: what it ended with instead of an answer.
        replay: which run of the request this is.
    """

    request_id: UUID
    key: CacheKey
    expires: float
    vector: Vectors | None = None
    leading: bool = False
    announced: bool = False
    borrows: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)
    answer: ResponseCompleted | None = None
    failure: ResponseFailed | None = None
    replay: int = 0

    async def wait(self, seconds: float) -> ResponseCompleted | None:
        """The answer; None when it failed or took longer."""
        try:
            async with asyncio.timeout(seconds):
                await self.done.wait()
        except TimeoutError:
            return None
        return self.answer


class InFlight:
    """What is under way, as this replica knows it."""

    def __init__(self, clock: Clock, *, threshold: float, patience_s: float, max_prompt_chars: int) -> None:
        """Prompts of more than ``max_prompt_chars`` are near to nothing, so their texts are not kept."""
        self._clock = clock
        self._max_prompt_chars = max_prompt_chars
        self._threshold = threshold
        self._patience_s = patience_s
        self._leaders: dict[UUID, Leader] = {}  # by exact key
        self._scopes: dict[UUID, dict[UUID, Leader]] = {}  # the same, by scope
        self._next_sweep = 0.0

    async def heard(self, event: Event) -> Sequence[Event]:
        """Take note of what any replica announced."""
        match event:
            case RequestMissed(request=request, key=CacheKey(base=UUID()) as key):
                leader = self.leader(request.id, key, request.replay)
                if leader.request_id == request.id:
                    leader.announced = True
                    if not leader.done.is_set():  # its call begins now, whatever it waited for before
                        leader.expires = self._clock.monotonic() + self._patience_s
                if leader.vector is None and key.embedding is not None:
                    leader.vector = decode_vector(key.embedding)
            case ResponseCompleted(key=CacheKey(base=UUID()) as key):
                led = self._leaders.get(key.exact)
                # One that was bought is good for all who wait, also when it comes from a leader nobody waits for now.
                if led is not None and (led.request_id == event.request_id or event.answer_of is None):
                    self._finish(led, event)
            case ResponseFailed(exact=UUID() as exact):
                led = self._leaders.get(exact)
                if led is not None and led.request_id == event.request_id and led.replay <= event.replay:
                    led.failure = event
                    self.release(led)
            case _:
                pass
        return ()

    def leader(self, request_id: UUID, key: CacheKey, replay: int = 0) -> Leader:
        """The request that leads for this very prompt: this one, where there is no other.

        One that is replayed does not wait for its own earlier run, unless that has an answer after all.
        """
        self._forget_old()
        now = self._clock.monotonic()
        known = self._leaders.get(key.exact)
        if known is not None and known.expires > now and not _superseded(known, request_id, replay):
            return known
        if known is not None:
            self.release(known)
        if len(key.prompt) > self._max_prompt_chars:
            key = key.model_copy(update={"prompt": ""})
        leader = Leader(request_id, key, expires=now + self._patience_s, replay=replay)
        if len(self._leaders) < MOST_LEADERS:
            self._leaders[key.exact] = leader
            self._scopes.setdefault(key.scope, {})[key.exact] = leader
        return leader

    def near(self, own: Leader, vector: Vectors) -> Sequence[tuple[Leader, float]]:
        """Other leaders in the same scope whose prompts are near enough, with their similarity, longest leading first.

        The one that leads longest comes first, not the nearest: so that many near-equal prompts gather behind one.
        Whoever picks one of them verifies it, and then asks :meth:`borrow`.
        """
        own.vector = vector
        now = self._clock.monotonic()
        lending = (
            leader
            for leader in reversed(self._scopes.get(own.key.scope, {}).values())
            # Who borrows is passed over, so no two can wait for each other.
            if leader.vector is not None and not leader.borrows and leader is not own and leader.expires > now
        )
        others = list(islice(lending, MOST_COMPARED))
        if not others:
            return ()
        similarities = np.stack([leader.vector for leader in others if leader.vector is not None]) @ vector
        near = [
            (leader, float(similarity))
            for leader, similarity in zip(others, similarities, strict=True)
            if similarity >= self._threshold
        ]
        return near[: -MOST_VERIFIED - 1 : -1]

    def borrow(self, own: Leader, leader: Leader) -> bool:
        """Whether ``own`` may wait for ``leader``, which was verified meanwhile; then nobody may wait for ``own``.

        Whoever borrows says :meth:`unborrow` in the end.
        """
        if leader.borrows or leader.failure:
            return False
        own.borrows = True
        own.expires = leader.expires + self._patience_s  # it must not be given up while it waits
        return True

    def unborrow(self, own: Leader) -> None:
        """``own`` waits no more: where it went away empty-handed, others may wait for it, and its time begins."""
        own.borrows = False
        own.expires = self._clock.monotonic() + self._patience_s

    def forget(self, concerned: Callable[[ResponseCompleted], bool]) -> None:
        """Give out the finished answers concerned no more."""
        for leader in [each for each in self._leaders.values() if each.answer and concerned(each.answer)]:
            leader.answer = None
            self.release(leader)

    def overtaken(self, answer: ResponseCompleted) -> None:
        """An invalidation overtook a leader's answer: one of those who wait leads for a new one."""
        led = self._leaders.get(answer.key.exact) if answer.key else None
        if led is not None and led.request_id == answer.request_id:
            self.release(led)

    def answered(self, own: Leader, answer: ResponseCompleted) -> None:
        """A request that led turned out to have an earlier answer; those who asked the very same share it."""
        own.answer = answer
        self.release(own)

    def release(self, leader: Leader) -> None:
        """A leader that leads no more; its followers look for another."""
        leader.done.set()
        if self._leaders.get(leader.key.exact) is not leader:
            return
        del self._leaders[leader.key.exact]
        scope = self._scopes[leader.key.scope]
        del scope[leader.key.exact]
        if not scope:
            del self._scopes[leader.key.scope]

    def _finish(self, leader: Leader, answer: ResponseCompleted) -> None:
        leader.answer = leader.answer or answer
        reusable_s = answer.freshness.ttl_s if answer.freshness else 0
        leader.expires = self._clock.monotonic() + min(ANSWERED_KEPT_S, reusable_s)
        leader.done.set()

    def _forget_old(self) -> None:
        now = self._clock.monotonic()
        if now < self._next_sweep:
            return
        self._next_sweep = now + SWEEP_EVERY_S
        for leader in [leader for leader in self._leaders.values() if leader.expires <= now]:
            self.release(leader)


def _superseded(leader: Leader, request_id: UUID, replay: int) -> bool:
    return leader.request_id == request_id and leader.replay < replay and leader.answer is None
