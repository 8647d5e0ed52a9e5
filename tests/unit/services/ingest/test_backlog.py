"""Requests under way, as records in byte strings: what an object for each would say, in a fraction of the memory."""

import struct
import tracemalloc
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.backlog import FORGETS_EVERY_S, FORGOTTEN_S, STRINGS, Backlog, Numbers, Taken
from services.ingest.forecast import Wait
from services.ingest.identity import Identities
from shared.events import Priority
from tests.support.clock import START, ManualClock

TIERS = ("light", "premium")
# All in one string: whatever can go wrong between records does so here.
IDS = [UUID(int=1 + STRINGS * number) for number in range(8)]
WAIT = Wait(1.1, 0.25, {"light": 3.0, "premium": 0.5})


def taken(tenant: str = "acme", priority: Priority = Priority.INTERACTIVE, tier: str | None = None) -> Taken:
    return Taken(tenant, priority, tier, 12.5, WAIT)


@pytest.mark.parametrize("tier", [None, "light", "premium"])
def test_what_was_put_in_comes_out(tier: str | None) -> None:
    backlog = Backlog(ManualClock(), TIERS)
    backlog.add(IDS[0], taken("acme", Priority.BULK, tier))
    assert backlog.get(IDS[0]) == taken("acme", Priority.BULK, tier)
    assert backlog.remove(IDS[0]) == taken("acme", Priority.BULK, tier)
    assert backlog.get(IDS[0]) is None


def test_of_a_tier_that_was_not_promised_nobody_is_ahead() -> None:
    backlog = Backlog(ManualClock(), TIERS)
    backlog.add(IDS[0], Taken("acme", Priority.BULK, "light", 0.0, Wait(1.0, 2.0, {"light": 7.0})))
    found = backlog.get(IDS[0])
    assert found is not None
    assert found.promised.ahead == {"light": 7.0, "premium": 0.0}


tenants = st.sampled_from(["acme", "bolt", "a-tenant-with-a-rather-long-name"])
kinds = st.builds(taken, tenants, st.sampled_from(Priority), st.sampled_from([None, *TIERS]))


@given(st.lists(st.tuples(st.sampled_from(IDS), st.none() | kinds)))
def test_it_counts_and_finds_as_a_dictionary_does(steps: list[tuple[UUID, Taken | None]]) -> None:
    backlog = Backlog(ManualClock(), TIERS)
    model: dict[UUID, Taken] = {}
    for request_id, one in steps:
        if one is None:
            assert backlog.remove(request_id) == model.pop(request_id, None)
        else:
            backlog.add(request_id, one)
            model.setdefault(request_id, one)
        assert [backlog.get(each) for each in IDS] == [model.get(each) for each in IDS]
        assert len(backlog) == len(model)
        for tenant in ("acme", "bolt", "nobody"):
            assert backlog.of_tenant(tenant) == sum(each.tenant == tenant for each in model.values())
        for priority in Priority:
            assert backlog.of_priority(priority) == sum(each.priority is priority for each in model.values())


def test_the_bytes_of_an_id_in_the_middle_of_another_record_are_not_taken_for_it() -> None:
    backlog, one = Backlog(ManualClock(), TIERS), taken()
    at_s = struct.pack("<d", one.at_s)  # stands behind the id
    first = UUID(int=int.from_bytes(at_s) % STRINGS)
    inside = UUID(bytes=first.bytes[8:] + at_s)
    backlog.add(first, one)
    assert backlog.get(inside) is None
    backlog.add(inside, taken("bolt"))
    assert backlog.get(inside) == taken("bolt")
    assert backlog.get(first) == one


async def test_those_are_forgotten_whose_end_should_have_been_heard_long_ago() -> None:
    clock = ManualClock()
    backlog = Backlog(clock, TIERS)
    backlog.add(IDS[0], Taken("acme", Priority.BULK, None, 0.0, WAIT))
    backlog.add(IDS[1], Taken("acme", Priority.BULK, None, 1.0, WAIT))
    await clock.advance(FORGOTTEN_S)
    backlog.forget_old()
    assert backlog.get(IDS[0]) is None
    assert backlog.of_tenant("acme") == 1
    await clock.advance(FORGETS_EVERY_S)
    backlog.forget_old()
    assert len(backlog) == 0


def test_a_number_is_given_again_when_its_name_is_released() -> None:
    numbers = Numbers()
    assert [numbers.number(name) for name in ("a", "b", "a")] == [0, 1, 0]
    numbers.release("a")
    assert numbers.number("c") == 0
    assert [numbers.name(0), numbers.name(1)] == ["c", "b"]


def test_a_request_takes_less_than_a_hundred_bytes() -> None:
    """As objects it took 670: what ingest held doubled with 100,000 requests queued."""
    backlog, identities, requests = Backlog(ManualClock(), TIERS), Identities("secret"), 20_000
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(requests):
        backlog.add(identities.new("acme", START), taken(f"tenant-{number % 20}"))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / requests < 100
