"""The HTTP of a simulated provider: the OpenAI protocol under ``/v1``, and what steers it under ``/control``."""

from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from infra.simulator import control, openai
from infra.simulator.bodies import BadBody, parsed
from infra.simulator.delivery import Delivery
from infra.simulator.engine import ANONYMOUS, Simulator
from infra.simulator.openai import ChatBody, EmbeddingsBody

REQUEST_ID: Final = "x-request-id"


def application(simulator: Simulator) -> Starlette:
    """All routes."""
    provider = _Provider(simulator)
    routes = [
        Route("/v1/chat/completions", provider.chat, methods=["POST"]),
        Route("/v1/embeddings", provider.embed, methods=["POST"]),
        Route("/v1/models", provider.models),
        Mount("/control", routes=control.routes(simulator)),
    ]
    return Starlette(routes=routes, exception_handlers={BadBody: _bad_body, 404: _not_found})


class _Provider:
    """``/v1``."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def chat(self, request: Request) -> Response:
        """``POST /v1/chat/completions``."""
        return self._answer(request, parsed(await request.body(), ChatBody))

    async def embed(self, request: Request) -> Response:
        """``POST /v1/embeddings``."""
        return self._answer(request, parsed(await request.body(), EmbeddingsBody))

    async def models(self, _: Request) -> Response:
        """``GET /v1/models``."""
        return JSONResponse(openai.models(self._simulator.scenario.models))

    def _answer(self, request: Request, body: ChatBody | EmbeddingsBody) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else ""
        ongoing = self._simulator.begin(body, key=key or ANONYMOUS, request_id=request.headers.get(REQUEST_ID))
        return Delivery(self._simulator, ongoing)


async def _bad_body(_: Request, error: Exception) -> Response:
    return JSONResponse(openai.error(str(error), "invalid_request_error"), 400)


async def _not_found(request: Request, _: Exception) -> Response:
    message = f"Invalid URL ({request.method} {request.url.path})"
    return JSONResponse(openai.error(message, "invalid_request_error"), 404)
