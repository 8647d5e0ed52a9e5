"""``forebay simulate``, in a process of its own, as it is run."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

Started = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Started]:
    """Start the command; what still runs at the end is ended."""
    with ExitStack() as stack:

        def run(*arguments: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", "from shared.cli import main; main()", "simulate", *arguments]
            process = stack.enter_context(
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
            stack.callback(process.kill)
            return process

        yield run


def test_it_serves_until_ctrl_c_and_tells_what_it_saw(start: Started) -> None:
    process = start("--scenario", "steady", "--seed", "7", "--time-scale", "1000")
    assert process.stdout is not None
    first = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/v1", first)
    assert found, first
    chat = {"model": "any", "messages": [{"role": "user", "content": "Hello."}]}
    response = httpx.post(f"{found[0]}/chat/completions", json=chat, headers={"authorization": "Bearer mine"})
    assert response.status_code == 200
    playing = httpx.get(found[0].replace("/v1", "/control/scenario")).json()
    assert (playing["seed"], playing["time_scale"]) == (7, 1000)
    process.send_signal(signal.SIGINT)
    rest, directions = process.communicate(timeout=10)
    assert process.returncode == 0
    (row,) = (line.split() for line in rest.splitlines() if "mine" in line)
    assert row[:5] == ["mine", "1", "1", "0", "0"]
    assert f"OPENAI_BASE_URL={found[0]}" in directions
    assert f"FOREBAY_LOCAL_MODEL_URL={found[0]}" in directions


def test_nobody_called(start: Started) -> None:
    process = start("--scenario", "garbage")
    assert process.stdout is not None
    assert "simulating" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert "nobody called" in process.communicate(timeout=10)[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--scenario", "nowhere"), "nowhere: no such file, and none of those that ship: doubled"),
        (("--time-scale", "0"), "time_scale: Input should be greater than or equal to 0.001"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(start: Started, arguments: tuple[str, ...], said: str) -> None:
    process = start(*arguments)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said in told
    assert "Traceback" not in told
