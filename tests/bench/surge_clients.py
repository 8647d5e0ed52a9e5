"""The users of a surge, as a program of its own: ``python -m tests.bench.surge_clients`` with a :class:`Task` on stdin.

They write down what they were told, and their log is the witness: nothing a design says of itself counts. A design
that answers at once has accepted a request when it answers; one that says ``202`` is asked for the answer again and
again, with growing pauses, until there is one.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Final, Literal

import aiohttp

from tests.bench.surge_course import MODEL, Asked

POLL_S: Final = 0.25
POLL_GROWTH: Final = 2.0
POLL_AT_MOST_S: Final = 4.0
Protocol = Literal["answers", "chat", "tickets", "forebay"]


@dataclass(frozen=True, slots=True)
class Task:
    """What the program is to do.

    Attributes:
        begin_s: by the machine's monotonic clock, which all processes share.
        until_s: seconds after the beginning when nobody asks for an answer any more.
    """

    protocol: Protocol
    url: str
    key: str
    begin_s: float
    until_s: float
    patience_s: float
    asked: Sequence[Asked]


@dataclass(slots=True)
class Entry:
    """One request in the log; times in seconds after the beginning, None for never.

    Attributes:
        status: of HTTP, of the first answer; 0 where there was none in time, or the connection broke.
        id: which the design gave it.
        ended_s: when the client saw its end, an answer or a failure.
        text: of the answer; None for a failure.
    """

    sent_s: float = 0.0
    told_s: float | None = None
    status: int = 0
    id: str | None = None
    ended_s: float | None = None
    text: str | None = None


class Clients:
    """All users."""

    def __init__(self, task: Task, http: aiohttp.ClientSession) -> None:
        self._task = task
        self._http = http
        self._random = Random(0)

    async def run(self) -> list[Entry]:
        """Return when everybody has an answer, or has given up."""
        log = [Entry() for _ in self._task.asked]
        async with asyncio.TaskGroup() as tasks:
            for asked, entry in zip(self._task.asked, log, strict=True):
                await asyncio.sleep(asked.at_s - self._now_s())
                tasks.create_task(self._ask(asked, entry))
        return log

    async def _ask(self, asked: Asked, entry: Entry) -> None:
        entry.sent_s = self._now_s()
        path, body, headers = request(self._task.protocol, asked, self._task.key)
        try:
            async with self._http.post(path, json=body, headers=headers) as response:
                said = await response.read()
                entry.status = response.status
        except (aiohttp.ClientError, TimeoutError):
            return
        entry.told_s = self._now_s()
        if entry.status in (200, 202):
            shown = json.loads(said)
            entry.id = shown["id"]
            if not self._ended(entry, shown):
                await self._wait(f"{path}/{entry.id}", headers, entry)

    async def _wait(self, path: str, headers: Mapping[str, str], entry: Entry) -> None:
        pause_s = POLL_S
        while self._now_s() < self._task.until_s:
            await asyncio.sleep(pause_s * self._random.uniform(0.8, 1.2))
            pause_s = min(pause_s * POLL_GROWTH, POLL_AT_MOST_S)
            try:
                async with self._http.get(path, headers=headers) as response:
                    shown = await response.json() if response.status == 200 else {}
            except (aiohttp.ClientError, TimeoutError):
                continue
            if self._ended(entry, shown):
                return

    def _ended(self, entry: Entry, shown: Mapping[str, Any]) -> bool:
        if (status := status_of(shown)) not in ("completed", "failed"):
            return False
        entry.ended_s = self._now_s()
        entry.text = text_of(shown) if status == "completed" else None
        return True

    def _now_s(self) -> float:
        return time.monotonic() - self._task.begin_s


def request(protocol: Protocol, asked: Asked, key: str) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Path, body and headers of a submission."""
    match protocol:
        case "answers":
            return "/answers", {"prompt": asked.prompt, "tenant": asked.tenant}, {}
        case "chat":
            messages = [{"role": "user", "content": asked.prompt}]
            return "/v1/chat/completions", {"model": MODEL, "messages": messages}, {"Authorization": f"Bearer {key}"}
        case "tickets":
            return "/tickets", {"prompt": asked.prompt, "tenant": asked.tenant}, {}
        case "forebay":
            return "/v1/requests", {"input": asked.prompt}, {"Forebay-Tenant": asked.tenant}


def status_of(shown: Mapping[str, Any]) -> str:
    """How a request does; an answer in OpenAI's form says nothing of it, and is complete."""
    return "completed" if "choices" in shown else str(shown.get("status", "unknown"))


def text_of(shown: Mapping[str, Any]) -> str:
    """The words of an answer."""
    if "choices" in shown:
        return str(shown["choices"][0]["message"]["content"])
    return str(shown["output_text"])


async def main(task: Task) -> None:
    """Be the users, and tell the log."""
    timeout = aiohttp.ClientTimeout(total=task.patience_s)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(task.url, timeout=timeout, connector=connector, trust_env=False) as http:
        log = await Clients(task, http).run()
    sys.stdout.write(json.dumps([asdict(entry) for entry in log]))


if __name__ == "__main__":
    told = json.loads(sys.stdin.read())
    told["asked"] = [Asked(**one) for one in told["asked"]]
    asyncio.run(main(Task(**told)))
