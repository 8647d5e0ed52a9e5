"""A SIMULATED provider: the OpenAI protocol (chat completions, embeddings) over HTTP on loopback, scripted by the test.

Nothing here is a model. It answers what the test scripted, in order, then a fixed text or made-up vectors, and counts
the calls.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

TEXT: Final = "A simulated answer."
DIMENSIONS: Final = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scripted answer.

    Attributes:
        stalls: never answer; the client has to give up.
    """

    status: int = 200
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    stalls: bool = False


def answer(
    text: str | None = TEXT, *, finish_reason: str = "stop", input_tokens: int = 7, output_tokens: int = 5
) -> Outcome:
    """A completion."""
    body = {
        "id": "chatcmpl-simulated",
        "object": "chat.completion",
        "created": 1,
        "model": "simulated",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}],
        "usage": {
            "prompt_tokens": input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        },
    }
    return Outcome(body=body)


def embeddings(vectors: Sequence[Sequence[float]], *, input_tokens: int = 3) -> Outcome:
    """Embeddings, listed last one first: the protocol has an index, and no order."""
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    usage = {"prompt_tokens": input_tokens, "total_tokens": input_tokens}
    return Outcome(body={"object": "list", "data": data[::-1], "model": "simulated", "usage": usage})


def made_up(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """A vector of no meaning, the same for equal texts; not of length 1."""
    return [float(1 + sum(text.encode()) % (7 + index)) for index in range(dimensions)]


def error(status: int, message: str = "scripted", *, code: str | None = None, **headers: str) -> Outcome:
    """An error as the OpenAI API words it; header names with underscores for dashes."""
    body = {"error": {"message": message, "type": "scripted_error", "param": None, "code": code}}
    return Outcome(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


EMPTY_CHOICES: Final = Outcome(
    body={"id": "x", "object": "chat.completion", "created": 1, "model": "simulated", "choices": [], "usage": None}
)
GARBAGE: Final = Outcome(body="<html>this is no JSON")
STALL: Final = Outcome(stalls=True)


class SimulatedProvider:
    """A simulated OpenAI-compatible server.

    Attributes:
        script: outcomes of the next calls, in order; when it is empty, a fixed answer.
        calls: the body of each call so far.
    """

    def __init__(self) -> None:
        self.script: list[Outcome] = []
        self.calls: list[dict[str, Any]] = []
        self.url = ""
        self._closing = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def serving(cls) -> AsyncIterator["SimulatedProvider"]:
        """Serve on a free port of the loopback interface while the block runs."""
        provider = cls()
        routes = [
            Route("/v1/chat/completions", provider.complete, methods=["POST"]),
            Route("/v1/embeddings", provider.embed, methods=["POST"]),
        ]
        app = Starlette(routes=routes)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            provider.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
            config = uvicorn.Config(
                app, log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=1
            )
            server = _Server(config)
            task = asyncio.create_task(server.serve([listening]))
            try:
                yield provider
            finally:
                provider._closing.set()
                server.should_exit = True
                await task

    def expect(self, *outcomes: Outcome) -> None:
        """Start over: forget the calls so far, and script the next ones."""
        self.script = list(outcomes)
        self.calls = []

    async def complete(self, request: Request) -> Response:
        """``POST /v1/chat/completions``."""
        return await self._respond(await request.json(), answer())

    async def embed(self, request: Request) -> Response:
        """``POST /v1/embeddings``."""
        body = await request.json()
        vectors = [made_up(text, body.get("dimensions") or DIMENSIONS) for text in body["input"]]
        return await self._respond(body, embeddings(vectors))

    async def _respond(self, body: dict[str, Any], otherwise: Outcome) -> Response:
        self.calls.append(body)
        outcome = self.script.pop(0) if self.script else otherwise
        if outcome.stalls:
            await self._closing.wait()
        if isinstance(outcome.body, str):
            return Response(outcome.body, outcome.status, dict(outcome.headers), media_type="application/json")
        return JSONResponse(outcome.body, outcome.status, dict(outcome.headers))


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield
