"""The SIMULATED provider of infra/simulator: answers what a test scripted, in order, and then as it does by itself."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from infra.simulator import openai
from infra.simulator.engine import ANONYMOUS, Ongoing, Simulator
from infra.simulator.openai import ChatBody, EmbeddingsBody
from infra.simulator.reply import Reply
from infra.simulator.scenario import Scenario
from infra.simulator.server import serving

TEXT: Final = "A simulated answer."


def raw(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Any body; text is sent as it is, all else as JSON."""
    text = body if isinstance(body, str) else json.dumps(body)
    return Reply(status, (text.encode(),), headers or {})


def answer(
    text: str | None = TEXT, *, finish_reason: str = "stop", input_tokens: int = 7, output_tokens: int = 5
) -> Reply:
    """A completion."""
    done = openai.Completed("simulated", "chatcmpl-simulated", "", finish_reason, input_tokens, output_tokens)
    body = openai.completion(done)
    body["choices"][0]["message"]["content"] = text
    return raw(body)


def embeddings(vectors: Sequence[Sequence[float]], *, input_tokens: int = 3) -> Reply:
    """Embeddings, listed last one first: the protocol has an index, and no order."""
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    usage = {"prompt_tokens": input_tokens, "total_tokens": input_tokens}
    return raw({"object": "list", "data": data[::-1], "model": "simulated", "usage": usage})


def error(status: int, message: str = "scripted", *, code: str | None = None, **headers: str) -> Reply:
    """An error as the OpenAI API words it; header names with underscores for dashes."""
    body = openai.error(message, "scripted_error", code=code)
    return raw(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


EMPTY_CHOICES: Final = raw(
    {"id": "x", "object": "chat.completion", "created": 1, "model": "simulated", "choices": [], "usage": None}
)
GARBAGE: Final = raw("<html>this is no JSON")
STALL: Final = Reply(course="hang")


class SimulatedProvider(Simulator):
    """A simulated OpenAI-compatible server.

    Attributes:
        script: replies to the next calls, in order.
        calls: the body of each call so far.
        url: where it is served.
    """

    def __init__(self, scenario: Scenario | None = None) -> None:
        super().__init__(scenario or Scenario())
        self.script: list[Reply] = []
        self.calls: list[dict[str, Any]] = []
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["SimulatedProvider"]:
        """Serve on a free port of the loopback interface while the block runs."""
        async with serving(self) as address:
            self.url = f"{address}/v1"
            yield self

    def expect(self, *replies: Reply) -> None:
        """Start over: forget the calls so far, and script the next ones."""
        self.script = list(replies)
        self.calls = []

    def begin(self, body: ChatBody | EmbeddingsBody, *, key: str = ANONYMOUS, request_id: str | None = None) -> Ongoing:
        self.calls.append(body.model_dump(exclude_unset=True))
        ongoing = super().begin(body, key=key, request_id=request_id)
        return replace(ongoing, reply=self.script.pop(0)) if self.script else ongoing
