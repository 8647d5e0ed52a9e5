"""Scenarios are read as a whole, and a mistake in one is told with its place."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from infra.simulator.scenario import (
    Answer,
    Constant,
    FaultKind,
    InvalidScenario,
    Limits,
    Lognormal,
    Scenario,
    Told,
    Uniform,
    Window,
    changed,
    load_scenario,
    parse_scenario,
    shipped,
)


@pytest.mark.parametrize("name", shipped())
def test_what_ships_can_be_played(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario != Scenario()
    assert parse_scenario(scenario.model_dump(mode="json", by_alias=True)) == scenario


def test_these_ship() -> None:
    assert {"steady", "outage", "doubled", "garbage", "slow"} == set(shipped())


def test_times_are_seconds_or_text(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        """
        [latency]
        kind = "lognormal"
        [[limits]]
        from = "2m"
        burst = 0.5
        [[faults]]
        kind = "hang"
        to = "1h"
        """
    )
    scenario = load_scenario(str(file))
    assert scenario.latency == Lognormal(kind="lognormal", low=3, high=30)
    assert (scenario.limits[0].from_s, scenario.limits[0].burst_s) == (120, 0.5)
    assert (scenario.faults[0].from_s, scenario.faults[0].to_s) == (0, 3600)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"sed": 1}, "sed: Extra inputs"),
        ({"time_scale": 0}, "time_scale: Input should be greater than or equal to 0.001"),
        ({"time_scale": float("inf")}, "time_scale: Input should be less"),
        ({"limits": [{"tokens_per_minute": float("nan")}]}, "limits.0.tokens_per_minute: Input should be"),
        ({"latency": {"kind": "gaussian"}}, "latency: Input tag 'gaussian'"),
        ({"latency": {"kind": "uniform", "low": 2, "high": 1}}, "high: 1 is less than low, 2"),
        ({"latency": {"kind": "lognormal", "low": 2, "high": 2}}, "high: 2 is not more than low, 2"),
        ({"limits": [{"burst": "soon"}]}, "limits.0.burst: 'soon' is no duration"),
        ({"limits": [{"requests_per_minute": -1}]}, "limits.0.requests_per_minute: Input should be greater than"),
        ({"faults": [{"kind": "status"}]}, 'faults.0: status: write one, such as 503, with kind = "status"'),
        ({"faults": [{"kind": "hang", "status": 500}]}, "faults.0: status: write one"),
        ({"faults": [{"kind": "status", "status": 200}]}, "faults.0.status: Input should be greater"),
        ({"faults": [{"kind": "hang", "retry_after": 1}]}, "faults.0: retry_after: only an error"),
        ({"faults": [{"kind": "hang", "from": 5, "to": 5}]}, "faults.0: to: 5 is not after from, 5"),
        ({"faults": [{"kind": "hang", "probability": 2}]}, "faults.0.probability: 2 is not from 0 to 1"),
        ([], "Input should be a valid dictionary"),
    ],
)
def test_a_mistake_is_told_with_its_place(data: Any, said: str) -> None:
    with pytest.raises(InvalidScenario) as raised:
        parse_scenario(data)
    assert said in str(raised.value)


def test_a_missing_scenario_is_told_with_those_there_are() -> None:
    with pytest.raises(InvalidScenario, match="nowhere: no such file, and none of those that ship: doubled, garbage"):
        load_scenario("nowhere")


@pytest.mark.parametrize("text", ["seed =", "seed = 'x'", "\x00"])
def test_a_file_that_is_wrong_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(InvalidScenario, match=r"mine\.toml: "):
        load_scenario(str(file))


def test_a_folder_is_no_scenario(tmp_path: Path) -> None:
    with pytest.raises(InvalidScenario, match="Is a directory"):
        load_scenario(str(tmp_path))


def test_a_change_is_of_what_it_names_and_of_nothing_else() -> None:
    scenario = parse_scenario({"seed": 5, "latency": {"kind": "uniform", "low": 1, "high": 2}})
    constant = {"kind": "constant", "value": 3}
    assert changed(scenario, {"latency": constant}) == parse_scenario({"seed": 5, "latency": constant})
    assert changed(scenario, {}) == scenario
    with pytest.raises(InvalidScenario, match=r"headers\.loud: Extra"):
        changed(scenario, {"headers": {"loud": True}})
    with pytest.raises(InvalidScenario, match="write an object with the keys that change"):
        changed(scenario, 3)


def test_nothing_said_is_a_provider_that_answers_at_once() -> None:
    assert parse_scenario({}) == Scenario()


def test_the_document_names_every_key_and_every_fault() -> None:
    document = (Path(__file__).parents[4] / "docs" / "simulator.md").read_text(encoding="utf-8")
    keys = {
        field.alias or name
        for table in (Scenario, Limits, Window, Told, Answer, Constant, Uniform, Lognormal)
        for name, field in table.model_fields.items()
    }
    missing = [name for name in (*keys, *get_args(FaultKind)) if not re.search(rf"`(\[+{name}\]+|{name})`", document)]
    assert missing == []
