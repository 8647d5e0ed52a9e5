"""Validators of the operator's: which can be loaded, and what counts as yes."""

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import ModuleType
from typing import Any, cast

import pytest
from structlog.typing import EventDict

from services.inference.cascade import validators
from services.inference.cascade.validators import PATIENCE_S, Validates, validator
from shared.errors import StartupError
from shared.events import Request
from tests.support import make
from tests.support.clock import ManualClock

KEY = "tiers.premium.cascade.check"


class Calls:
    """Callables that are no plain functions."""

    @staticmethod
    def check(request: Request, text: str) -> bool:
        return text == "yes"


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the operator's."""
    module = ModuleType("acme_checks")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Ends functions that would never return."""
    event = threading.Event()
    yield event
    event.set()


def own(theirs: ModuleType, function: object, clock: ManualClock | None = None) -> Validates:
    cast("Any", theirs).check = function
    return validator(KEY, "acme_checks:check", clock or ManualClock())


def says_yes_later(request: Request, text: str) -> Awaitable[bool]:
    return says_yes(request, text)


async def says_yes(request: Request, text: str) -> bool:
    return text == "yes"


@pytest.mark.parametrize("function", [Calls.check, says_yes, says_yes_later])
async def test_it_is_asked_whether_it_is_async_or_not(
    theirs: ModuleType, function: Callable[[Request, str], object]
) -> None:
    check = own(theirs, function)
    assert await check(make.request(), "yes", 60) is True
    assert await check(make.request(), "no", 60) is False


async def test_it_sees_the_request_and_the_answer(theirs: ModuleType) -> None:
    seen: list[tuple[Request, str]] = []

    def look(request: Request, text: str) -> bool:
        seen.append((request, text))
        return True

    request = make.request(metadata={"kind": "invoice"})
    await own(theirs, look)(request, "42", 60)
    assert seen == [(request, "42")]


async def test_one_that_is_not_async_does_not_keep_the_loop_from_working(theirs: ModuleType) -> None:
    loop = asyncio.get_running_loop()

    def look(request: Request, text: str) -> bool:
        return asyncio.run_coroutine_threadsafe(says_yes(request, text), loop).result()

    assert await own(theirs, look)(make.request(), "yes", 60) is True


@pytest.mark.parametrize("error", [ValueError("no idea"), SystemExit(3)])
async def test_a_failure_is_a_no_and_is_logged(
    theirs: ModuleType, error: BaseException, logged: list[EventDict]
) -> None:
    def fail(request: Request, text: str) -> bool:
        raise error

    assert await own(theirs, fail)(make.request(), "yes", 60) is False
    (entry,) = [each for each in logged if each["event"] == "a validator failed"]
    assert (entry["validator"], entry["tenant"]) == ("acme_checks:check", "acme")


@pytest.mark.parametrize("said", ["yes", 1, None])
async def test_only_true_is_yes(theirs: ModuleType, said: object, logged: list[EventDict]) -> None:
    assert await own(theirs, lambda request, text: said)(make.request(), "yes", 60) is False
    assert [each["event"] for each in logged] == ["a validator said neither True nor False"]


async def test_what_takes_too_long_is_a_no(
    theirs: ModuleType, release: threading.Event, logged: list[EventDict]
) -> None:
    async def sleep(request: Request, text: str) -> bool:
        await asyncio.Event().wait()
        return True

    def hang(request: Request, text: str) -> bool:
        return release.wait()

    for slow in (sleep, hang):
        clock = ManualClock()
        asked = asyncio.create_task(own(theirs, slow, clock)(make.request(), "yes", 60))
        await clock.advance(PATIENCE_S - 0.1)
        assert not asked.done()
        await clock.advance(0.1)
        assert await asked is False
    assert [each["event"] for each in logged] == ["a validator took too long"] * 2


async def test_nor_longer_than_there_is_time(theirs: ModuleType) -> None:
    async def sleep(request: Request, text: str) -> bool:
        await asyncio.Event().wait()
        return True

    clock = ManualClock()
    asked = asyncio.create_task(own(theirs, sleep, clock)(make.request(), "yes", 2))
    await clock.advance(2)
    assert await asked is False


async def test_those_that_hang_hold_so_many_threads_and_no_more(
    theirs: ModuleType, release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validators, "AT_ONCE", 1)
    begun: list[str] = []

    def hang(request: Request, text: str) -> bool:
        begun.append(text)
        return release.wait()

    clock = ManualClock()
    check = own(theirs, hang, clock)
    for text in ("first", "second"):
        asked = asyncio.create_task(check(make.request(), text, 60))
        await clock.advance(PATIENCE_S)
        assert await asked is False
    assert begun == ["first"]
    release.set()
    assert await check(make.request(), "third", 60) is True
    assert begun == ["first", "third"]


@pytest.mark.parametrize(
    ("check", "told"),
    [
        ("no_such_module_anywhere:check", r"ModuleNotFoundError.*is its module on PYTHONPATH"),
        ("acme_checks:none", "AttributeError.*none"),
        ("acme_checks:number", "no function but a int"),
        ("acme_checks:narrow", "must take a request and a text: too many positional arguments"),
    ],
)
def test_one_that_cannot_be_used_keeps_the_service_from_starting(theirs: ModuleType, check: str, told: str) -> None:
    module = cast("Any", theirs)
    module.number = 7
    module.narrow = lambda text: True
    with pytest.raises(StartupError, match=rf"^tiers\.premium\.cascade\.check: '{check}' .*{told}"):
        validator(KEY, check, ManualClock())


@pytest.mark.parametrize(("text", "valid"), [('{"a": 1}', True), ("[1]", False), ("Paris", False)])
async def test_json_is_an_object_where_one_is_asked_for(text: str, valid: bool) -> None:
    check = validator(KEY, "json", ManualClock())
    assert await check(make.request(text={"format": {"type": "json_object"}}), text, 60) is valid
    assert await check(make.request(), text, 60) is False
