"""A file of answers to bring along."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.cli.warming import MOST_FAULTS, Load, batches, load
from shared.errors import InvalidRequest
from tests.support import make
from tests.support.clock import START

ANSWER = {"input": "Hello?", "output_text": "Hi."}


def loaded(tmp_path: Path, *lines: object, tenant: str = "acme", category: str | None = None) -> Load:
    file = tmp_path / "answers.jsonl"
    texts = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    file.write_bytes(b"\n".join(texts))
    return load(file, make.policy(), tenant=tenant, category=category, now=START)


def faults(tmp_path: Path, *lines: object, category: str | None = None) -> list[str]:
    with pytest.raises(InvalidRequest) as raised:
        loaded(tmp_path, *lines, category=category)
    first, *others = raised.value.message.splitlines()
    assert first == "nothing was sent:"
    return others


def test_a_line_with_an_answer_becomes_an_event(tmp_path: Path) -> None:
    (event,) = loaded(tmp_path, ANSWER).brought
    assert (event.request.prompt, event.output_text) == ("Hello?", "Hi.")
    assert (event.request.tenant, event.request.priority, event.request.accepted_at) == ("acme", "bulk", START)
    assert (event.tier, event.category, event.answered_by, event.cost_usd) == ("light", None, "imported", 0)
    assert len(event.request.digest) == 64


def test_a_line_may_say_all_there_is_to_say(tmp_path: Path) -> None:
    line = ANSWER | {
        "instructions": "Be brief.",
        "model": "large",
        "max_output_tokens": 50,
        "temperature": 0.5,
        "category": "dynamic",
        "tenant": "other",
        "answered_by": "gpt-4o",
        "cost_usd": 0.01,
    }
    (event,) = loaded(tmp_path, line, category="static").brought
    request = event.request
    assert (request.tenant, request.instructions, request.model) == ("other", "Be brief.", "large")
    assert (request.max_output_tokens, request.temperature) == (50, 0.5)
    assert (event.tier, event.category, event.answered_by, event.cost_usd) == ("premium", "dynamic", "gpt-4o", 0.01)


def test_a_category_for_all_is_for_those_that_name_none(tmp_path: Path) -> None:
    events = loaded(tmp_path, ANSWER, ANSWER | {"category": "static"}, {"input": "b"}, category="dynamic").brought
    assert [event.category for event in events] == ["dynamic", "static"]


def test_every_answer_has_an_id_of_its_own(tmp_path: Path) -> None:
    events = loaded(tmp_path, ANSWER, ANSWER).brought
    assert len({event.request.id for event in events}) == 2


def test_a_line_without_an_answer_is_to_be_bought_as_it_was_written(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hello?"}]
    form = {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}
    found = loaded(tmp_path, {"input": turns, "text": form}, {"input": "b", "tenant": "other"})
    assert found.brought == []
    assert dict(found.to_buy) == {"acme": [{"input": turns, "text": form}], "other": [{"input": "b"}]}


def test_empty_lines_and_other_ends_of_lines_do_no_harm(tmp_path: Path) -> None:
    text = json.dumps(ANSWER).encode()
    assert len(loaded(tmp_path, b"\xef\xbb\xbf" + text + b"\r", b"", b"  ", text, b"").brought) == 2
    assert loaded(tmp_path, b"").brought == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"nonsense", "Invalid JSON"),
        (b"\xff", "Invalid JSON"),
        ([], ""),
        ({}, "input: Field required"),
        ({"input": " "}, "input.text: must not be empty"),
        ({"input": "a\x00"}, "input.text: must not contain NUL"),
        ({"inptu": "a"}, "input: Field required"),
        (ANSWER | {"ouput": "x"}, "ouput: Extra inputs"),
        (ANSWER | {"output_text": " "}, "output_text: must not be empty"),
        (ANSWER | {"tenant": "A B"}, "tenant: "),
        (ANSWER | {"model": "huge"}, "model: the policy knows no 'huge'"),
        (ANSWER | {"category": "moody"}, "category: 'moody' is none; known: dynamic, static"),
        (ANSWER | {"cost_usd": -1}, "cost_usd: "),
        (b'{"input": "a", "output_text": "b", "cost_usd": 1e999}', "cost_usd: "),
        (ANSWER | {"cost_usd": "1"}, "cost_usd: "),
        (ANSWER | {"answered_by": ""}, "answered_by: "),
        ({"input": "a", "category": "static"}, "category is said of an answer, and there is no output_text"),
        ({"input": "a", "answered_by": "m"}, "answered_by is said of an answer"),
        ({"input": "a", "cost_usd": 0.1}, "cost_usd is said of an answer"),
        ({"input": [{"role": "assistant", "content": "x"}]}, "the last turn of input must have the role user"),
    ],
    ids=repr,
)
def test_a_line_that_is_wrong_is_told_by_its_number(tmp_path: Path, line: Any, fault: str) -> None:
    (told,) = faults(tmp_path, ANSWER, b"", line, {"input": "b"})
    assert told.startswith(f"line 3: {fault}")


def test_all_wrong_lines_are_told_and_of_very_many_the_first(tmp_path: Path) -> None:
    assert [told.split(":")[0] for told in faults(tmp_path, {}, ANSWER, {})] == ["line 1", "line 3"]
    many = faults(tmp_path, *[{}] * (MOST_FAULTS + 5))
    assert many[-1] == "and 5 more"
    assert len(many) == MOST_FAULTS + 1


def test_a_category_for_all_that_is_unknown_is_wrong_in_each_line(tmp_path: Path) -> None:
    assert len(faults(tmp_path, ANSWER, ANSWER, category="moody")) == 2


def test_batches_hold_all_in_order(tmp_path: Path) -> None:
    events = loaded(tmp_path, *[ANSWER] * 5).brought
    assert [len(part) for part in batches(events, 2)] == [2, 2, 1]
    assert [event for part in batches(events, 2) for event in part] == events
