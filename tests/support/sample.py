"""Events as the documents show them, changed where a test says so."""

from typing import TypeVar

from shared.events import Event
from shared.examples import example

E = TypeVar("E", bound=Event)


def sample(kind: type[E], **changes: object) -> E:
    """The example of an event type; ``changes`` are fields of it."""
    return kind.model_validate(example(kind).model_dump() | changes)
