"""What people write around a rate limit, as programs of their own: ``python -m tests.bench.limit_callers NAME …``.

Each runs some workers that call litellm again and again, with one way to try again, until its standard input ends;
then it tells how many requests it gave up. It waits for a line before it begins, so that several begin at once.
"""

import asyncio
import contextlib
import itertools
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import stamina

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
import litellm

litellm.suppress_debug_info = True

Call = Callable[[str], Awaitable[Any]]
READY: Final = "ready"


async def answer_of(url: str, prompt: str, **more: Any) -> Any:
    """litellm's own call."""
    messages = [{"role": "user", "content": prompt}]
    return await litellm.acompletion(model="openai/simulated", api_base=url, api_key="bench", messages=messages, **more)


def by_litellm(url: str) -> Call:
    """litellm's own ``num_retries``."""
    return lambda prompt: answer_of(url, prompt, num_retries=8)


def at_once(url: str) -> Call:
    """Again and again, without a pause."""

    async def call(prompt: str) -> Any:
        while True:
            with contextlib.suppress(Exception):
                return await answer_of(url, prompt, max_retries=0)

    return call


def by_stamina(url: str) -> Call:
    """stamina with its defaults: exponential backoff with jitter, 10 attempts, 45 s."""

    @stamina.retry(on=Exception)
    async def call(prompt: str) -> Any:
        return await answer_of(url, prompt, max_retries=0)

    return call


CALLERS: Final = {"litellm": by_litellm, "at-once": at_once, "stamina": by_stamina}


async def work(call: Call, workers: int, end: "asyncio.Future[None]") -> int:
    """Call until the end; returns how many requests were given up."""
    numbers = itertools.count()
    given_up = 0

    async def worker() -> None:
        nonlocal given_up
        while True:
            try:
                await call(f"{os.getpid()} {next(numbers)}")
            except Exception:  # whatever is raised: the request has no answer
                given_up += 1

    tasks = [asyncio.create_task(worker()) for _ in range(workers)]
    await end
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return given_up


async def main(name: str, url: str, workers: int) -> None:
    """Be one of the programs."""
    stamina.instrumentation.set_on_retry_hooks([])  # it would log each
    await answer_of(url, "the first call takes seconds: litellm gets ready")
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    end = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    sys.stdout.write(f"{await work(CALLERS[name](url), workers, end)}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
