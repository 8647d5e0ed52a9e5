"""The load, and what its clients write down."""

from collections import Counter
from random import Random

import pytest

from infra.simulator.engine import Simulator
from infra.simulator.openai import ChatBody, Turn
from shared.events import Submission
from tests.chaos.history import Sent
from tests.chaos.load import Log, Planned, plan
from tests.chaos.pool import CALM
from tests.chaos.witness import simulated

TENANTS = ("a", "b", "c")


def planned(seed: int = 1) -> list[Planned]:
    return plan(Random(seed), requests=600, per_s=20.0, tenants=TENANTS)


def test_a_seed_draws_the_same_requests_again() -> None:
    assert planned(7) == planned(7) != planned(8)


def test_both_doors_all_tenants_keys_and_none_repeats_and_near_repeats() -> None:
    load = planned()
    assert len({one.mark for one in load}) == 600
    assert {one.tenant for one in load} == set(TENANTS)
    assert {(one.door, one.keyed) for one in load} == {("http", True), ("http", False), ("amqp", True)}
    prompts = Counter((one.tenant, one.prompt) for one in load)
    meanings = {(one.tenant, one.meaning) for one in load}
    assert 600 > len(prompts) > len(meanings) > 200
    assert load[-1].at_s == pytest.approx(599 / 20)


def test_prompts_with_one_answer_belong_to_one_tenant_and_one_meaning() -> None:
    owner: dict[str, tuple[str, str]] = {}
    for one in planned():
        assert owner.setdefault(simulated(one.prompt), (one.tenant, one.meaning)) == (one.tenant, one.meaning)


def test_the_expected_answer_is_the_one_that_the_simulated_provider_gives() -> None:
    prompt = planned()[0].prompt
    body = ChatBody(model="simulated", messages=[Turn(role="user", content=prompt)], max_tokens=3)
    (piece,) = Simulator(CALM).begin(body).reply.pieces
    assert simulated(prompt).encode() in piece
    assert b'"finish_reason": "stop"' in piece.replace(b'":"', b'": "')


def test_every_prompt_is_a_valid_submission() -> None:
    assert all(Submission(input=one.prompt).input for one in planned())


def test_the_longest_gap_is_between_two_acceptances() -> None:
    log = Log()
    assert log.longest_gap_s() == 0.0
    log.accepted(Sent("m", "a", "x", keyed=False), None)
    log.accepted_at[:] = [10.0, 17.5, 11.0]
    assert log.longest_gap_s() == 6.5
