"""What is said when a process comes or goes."""

from io import StringIO
from pathlib import Path

import pytest

from infra.local import watch
from infra.local.home import Home
from infra.local.watch import Event, Narrator

HEADER = "ver:3.0 server:supervisor serial:1 pool:watch poolserial:1 eventname:PROCESS_STATE_EXITED len:{}\n"
PAYLOAD = "processname:inference groupname:inference from_state:RUNNING expected:0 pid:7"


@pytest.fixture
def narrator(tmp_path: Path) -> Narrator:
    return Narrator(Home.at(tmp_path))


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("WARN exited: inference (terminated by SIGKILL; not expected)", "signal 9"),
        ("WARN exited: inference (terminated by SIGSEGV (core dumped); not expected)", "signal 11"),
        ("WARN exited: inference (terminated by signal 40; not expected)", "signal 40"),
        ("WARN exited: inference (exit status 3; not expected)", "status 3"),
        ("WARN exited: inference-2 (exit status 3; not expected)", "cause unknown"),
        ("INFO exited: inference (exit status 1; x)\nWARN exited: inference (terminated by SIGTERM; y)", "signal 15"),
    ],
)
def test_the_cause_is_read_from_the_daemons_log(line: str, cause: str) -> None:
    assert watch.cause(line, "inference") == cause


def test_a_fall_and_a_return(narrator: Narrator) -> None:
    fall = narrator.sentence(Event("inference", "EXITED"), None, "signal 9")
    rise = narrator.sentence(Event("inference", "STARTING"), 8, "")
    assert fall == "inference exited (signal 9), restarting"
    assert rise == "inference running again as pid 8"


def test_a_start_that_was_asked_for_is_no_return(narrator: Narrator) -> None:
    narrator.sentence(Event("cache", "BACKOFF"), None, "status 1")
    assert narrator.sentence(Event("cache", "STOPPED"), None, "") == "cache stopped"
    assert narrator.sentence(Event("cache", "STARTING"), 8, "") == "cache started as pid 8"


def test_giving_up_says_where_to_look(narrator: Narrator) -> None:
    said = narrator.sentence(Event("cache", "FATAL"), None, "")
    assert said is not None
    assert said.endswith(f"see {narrator.home.log_of('cache')}")


def test_states_in_between_are_not_worth_a_line(narrator: Narrator) -> None:
    assert narrator.sentence(Event("cache", "RUNNING"), 8, "") is None


def test_each_event_is_confirmed_after_it_was_dealt_with() -> None:
    source, sink = StringIO(HEADER.format(len(PAYLOAD)) + PAYLOAD), StringIO()
    events = watch.events(source, sink)
    assert next(events) == Event(
        "inference", "EXITED", {"groupname": "inference", "from_state": "RUNNING", "expected": "0", "pid": "7"}
    )
    assert sink.getvalue() == watch.READY
    assert list(events) == []
    assert sink.getvalue() == watch.READY + watch.DONE + watch.READY
