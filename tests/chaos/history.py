"""Whether a history is one that Forebay may have: what clients sent and were told, against rows and events.

Clients are the witnesses. A request is *accepted* when its client was told so (a 202, a confirmed publish), and
*unknown* when an attempt ended without a word: that one may exist or not. Every request carries a mark of its client's,
so that a row or an event whose id nobody was told still says whose it is; and every answer of the simulated provider
names the prompt it answers.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

Kind = Literal["lost", "twice", "wrong", "unseen", "unrecorded", "stranger", "unfinished"]


@dataclass(slots=True)
class Sent:
    """One request, as its client knows it.

    Attributes:
        mark: the client's own name for it.
        meaning: what its prompt asks; prompts that may share an answer have the same.
        keyed: whether its attempts share a key (``Idempotency-Key``, ``message_id``), and so are one request.
        accepted: the id of each attempt that was accepted; None where the door tells none (AMQP).
        unknown: attempts that ended without a word.
        refused: attempts that were refused, or never left.
    """

    mark: str
    tenant: str
    meaning: str
    keyed: bool
    accepted: list[UUID | None] = field(default_factory=list)
    unknown: int = 0
    refused: int = 0

    @property
    def at_least(self) -> int:
        """How many terminal results there must be."""
        return min(1, len(self.accepted)) if self.keyed else len(self.accepted)

    @property
    def at_most(self) -> int:
        """How many there may be."""
        attempts = len(self.accepted) + self.unknown
        return min(1, attempts) if self.keyed else attempts


@dataclass(frozen=True, slots=True)
class Terminal:
    """The end of a request: a row, or an event.

    Attributes:
        mark: None where it carries none.
        answers: what the prompt asked that this answers; None for a failure.
    """

    id: UUID
    tenant: str
    mark: str | None
    status: str
    answers: str | None
    replay: int = 0


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be.

    Attributes:
        kind: ``lost``: accepted, and no row. ``twice``: more rows than were asked for, or events that contradict each
            other. ``wrong``: the answer, mark or tenant of another request. ``unseen``: a row without its event.
            ``unrecorded``: an event without its row. ``stranger``: a row nobody asked for. ``unfinished``: the row of a
            request without one of its end.
    """

    kind: Kind
    what: str


def check(
    sent: Iterable[Sent], rows: Sequence[Terminal], events: Sequence[Terminal], unfinished: Iterable[UUID] = ()
) -> list[Violation]:
    """All that is wrong with a history; nothing, if it is one that may be.

    Args:
        sent: every request of the clients.
        rows: every terminal row, as often as there is one.
        events: every terminal event, as often as it came.
        unfinished: ids of requests that are recorded without an end.
    """
    asked = {one.mark: one for one in sent}
    return [
        *_rows_of_each(asked, rows),
        *_strangers(asked, rows),
        *_misplaced(asked, rows),
        *_misplaced(asked, events),
        *_contradictions(events),
        *_apart(rows, events),
        *(Violation("unfinished", f"{each} is recorded, and has no end") for each in sorted(unfinished)),
    ]


def _rows_of_each(asked: dict[str, Sent], rows: Sequence[Terminal]) -> Iterable[Violation]:
    ids: dict[str | None, list[UUID]] = defaultdict(list)
    for row in rows:
        ids[row.mark].append(row.id)
    for mark, one in asked.items():
        told = {each for each in one.accepted if each is not None}
        for missing in sorted(told - {row.id for row in rows}):
            yield Violation("lost", f"{mark}: {missing} was accepted, and has no row")
        if not told and len(ids[mark]) < one.at_least:
            yield Violation("lost", f"{mark} was accepted, and has no row")
        if len(ids[mark]) > one.at_most > 0:
            yield Violation("twice", f"{mark} has {len(ids[mark])} rows: {', '.join(map(str, ids[mark]))}")


def _strangers(asked: dict[str, Sent], rows: Sequence[Terminal]) -> Iterable[Violation]:
    for row in rows:
        one = asked.get(row.mark or "")
        if one is None or one.at_most == 0:
            yield Violation("stranger", f"{row.id} ({row.mark}) has a row, and nobody was told it might")
    for each, times in Counter(row.id for row in rows).items():
        if times > 1:
            yield Violation("twice", f"{each} has {times} rows")


def _misplaced(asked: dict[str, Sent], ends: Sequence[Terminal]) -> Iterable[Violation]:
    owner = {each: mark for mark, one in asked.items() for each in one.accepted if each is not None}
    for end in ends:
        mark = owner.get(end.id, end.mark)
        one = asked.get(mark or "")
        if one is None:
            continue
        if end.mark != one.mark or end.tenant != one.tenant:
            yield Violation("wrong", f"{end.id} is {one.mark} of {one.tenant}, not {end.mark} of {end.tenant}")
        if end.answers != (one.meaning if end.status == "completed" else None):
            yield Violation("wrong", f"{end.id} ({one.mark}) asked {one.meaning!r}; this answers {end.answers!r}")


def _contradictions(events: Sequence[Terminal]) -> Iterable[Violation]:
    """A repeated event is allowed: a message may come twice. One that says something else is not."""
    first: dict[tuple[UUID, int], Terminal] = {}
    for event in events:
        known = first.setdefault((event.id, event.replay), event)
        if known != event:
            yield Violation("twice", f"{event.id} ended as {known.status}, and then as {event.status}")


def _apart(rows: Sequence[Terminal], events: Sequence[Terminal]) -> Iterable[Violation]:
    recorded = {(row.id, row.replay, row.status) for row in rows}
    seen = {(event.id, event.replay, event.status) for event in events}
    ids = {row.id for row in rows}
    for each, _, status in sorted(recorded - seen):
        yield Violation("unseen", f"{each} is {status}, and no event said so")
    for each in sorted({each for each, _, _ in seen} - ids):
        yield Violation("unrecorded", f"{each} ended with an event, and has no row")
