"""What tells whether one cheap answer will do: that it is JSON, or a function of the operator's."""

import asyncio
import importlib
import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

import structlog

from services.inference.cascade import agreement
from shared.clock import Clock
from shared.errors import StartupError
from shared.events import Request
from shared.policy.tiers import JSON

log = structlog.stdlib.get_logger(__name__)
# Seconds a function may take at the most; what takes longer counts as no.
PATIENCE_S: Final = 5.0
# Threads that functions which are not async may hold at a time, those that never return included.
AT_ONCE: Final = 16

Function = Callable[[Request, str], object]


class Validates(Protocol):
    """What is needed of a validator."""

    async def __call__(self, request: Request, text: str, within_s: float, /) -> bool:
        """Whether an answer will do; no where that is not told within so many seconds."""
        ...


def validator(key: str, check: str, clock: Clock) -> Validates:
    """The validator that a policy names at some key.

    Raises:
        StartupError: there is no such function, or it is none that takes a request and a text.
    """
    if check == JSON:
        return is_json
    return Own(check, _function(key, check), clock)


async def is_json(request: Request, text: str, _within_s: float) -> bool:
    """Whether an answer is JSON of the kind that was asked for."""
    return request.output_format is not None and agreement.json_value(request.output_format, text) is not None


class Own:
    """A function of the operator's; whatever goes wrong in it counts as no, and is logged."""

    def __init__(self, name: str, function: Function, clock: Clock) -> None:
        self._name = name
        self._function = function
        self._clock = clock
        self._threads = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, request: Request, text: str, within_s: float) -> bool:
        within_s = min(PATIENCE_S, within_s)
        work = asyncio.create_task(self._said(request, text))
        timer = asyncio.create_task(self._clock.sleep(within_s))
        try:
            await asyncio.wait({work, timer}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return self._verdict(work, request)
            log.warning("a validator took too long", validator=self._name, seconds=within_s, **_of(request))
            return False
        finally:
            work.cancel()
            timer.cancel()

    def _verdict(self, work: "asyncio.Task[object]", request: Request) -> bool:
        try:
            said = work.result()
        except (Exception, asyncio.CancelledError) as error:
            log.warning("a validator failed", validator=self._name, error=repr(error), exc_info=error, **_of(request))
            return False
        if not isinstance(said, bool):
            kind = type(said).__name__
            log.warning("a validator said neither True nor False", validator=self._name, said=kind, **_of(request))
        return said is True

    async def _said(self, request: Request, text: str) -> object:
        if inspect.iscoroutinefunction(self._function):
            return await self._function(request, text)
        await self._threads.acquire()
        said = await in_thread(lambda: self._function(request, text), ended=self._threads.release)
        return await said if inspect.isawaitable(said) else said


async def in_thread(work: Callable[[], object], *, ended: Callable[[], None]) -> object:
    """What some work returns or raises, done in a thread that does not keep the process from ending.

    ``ended`` is called when it has, which may be long after nobody waits for it any more.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[object, Exception | None]] = loop.create_future()

    def settle(said: object, error: Exception | None) -> None:
        ended()
        if not done.done():
            done.set_result((said, error))

    def run() -> None:
        said, failure = None, None
        try:
            said = work()
        except Exception as error:  # it is raised where it is waited for
            failure = error
        except BaseException as error:  # such as SystemExit, which there would end the service
            failure = RuntimeError(repr(error))
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, said, failure)

    threading.Thread(target=run, name="validator", daemon=True).start()
    said, error = await done
    if error is not None:
        raise error
    return said


def _function(key: str, check: str) -> Function:
    module, _, path = check.partition(":")
    try:
        found: object = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except Exception as error:  # importing runs whatever is in the module
        why = f"{type(error).__name__}: {error}"
        raise StartupError(f"{key}: {check!r} can't be loaded ({why}); is its module on PYTHONPATH?") from error
    if not callable(found):
        raise StartupError(f"{key}: {check!r} is no function but a {type(found).__name__}")
    try:
        inspect.signature(found).bind(None, "")
    except (TypeError, ValueError) as error:
        raise StartupError(f"{key}: {check!r} must take a request and a text: {error}") from error
    return found


def _of(request: Request) -> dict[str, str]:
    return {"request_id": str(request.id), "tenant": request.tenant}
