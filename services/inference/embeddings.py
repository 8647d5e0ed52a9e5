"""``POST /v1/embeddings``, for the cache: the OpenAI protocol, for the models the policy names as embedders.

It is here because this is the only service that has the providers' keys. It listens where the probes do and asks nobody
who they are: it is for the inside of a deployment only.
"""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final, Protocol

import structlog
from pydantic import BaseModel, Field, PositiveInt, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.inference.completion import Embedded
from services.inference.errors import (
    ContextWindowExceeded,
    ProviderAuth,
    ProviderError,
    ProviderMissing,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnreachable,
    RateLimited,
)
from shared.bodies import body_within
from shared.errors import RequestTooLarge
from shared.faults import faults
from shared.policy.caching import MOST_DIMENSIONS, EmbedderPolicy
from shared.problems import problem
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)

MOST_TEXTS: Final = 256
MOST_BYTES: Final = 8 * 2**20
RETRY_AFTER_S: Final = 2.0
# A key that is wrong stays so until somebody changes it.
AUTH_AGAIN_S: Final = 60.0
_STATUS: Final[Mapping[type[ProviderError], HTTPStatus]] = {
    RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    ProviderTimeout: HTTPStatus.GATEWAY_TIMEOUT,
    ProviderUnreachable: HTTPStatus.SERVICE_UNAVAILABLE,
    ProviderAuth: HTTPStatus.SERVICE_UNAVAILABLE,
    ProviderRefused: HTTPStatus.BAD_REQUEST,
    ProviderMissing: HTTPStatus.SERVICE_UNAVAILABLE,
    ContextWindowExceeded: HTTPStatus.BAD_REQUEST,
}

Text = Annotated[str, Field(min_length=1)]


class Embeds(Protocol):
    """What this door needs of a provider."""

    async def embed(self, texts: list[str], model: str, *, dimensions: int | None, timeout_s: float) -> Embedded:
        """One call; raises ProviderError."""
        ...


class Asked(BaseModel):
    """The body; fields of the protocol that are not here are ignored."""

    model: str
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]
    dimensions: Annotated[PositiveInt, Field(le=MOST_DIMENSIONS)] | None = None

    @property
    def texts(self) -> list[str]:
        """What is to be embedded."""
        return [self.input] if isinstance(self.input, str) else self.input


class EmbeddingsDoor:
    """Embeds for the cache."""

    def __init__(self, policy: EmbedderPolicy, provider: Embeds, *, timeout_s: float) -> None:
        self._policy = policy
        self._provider = provider
        self._timeout_s = timeout_s

    @property
    def route(self) -> Route:
        """Where it is served."""
        return Route("/v1/embeddings", self.embed, methods=["POST"])

    async def embed(self, request: Request) -> Response:
        """One vector for each text; a problem document (RFC 9457) where that can't be."""
        try:
            asked = Asked.model_validate_json(await body_within(request, MOST_BYTES))
        except RequestTooLarge as error:
            return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error.code, error.message)
        except ValidationError as error:
            fault = faults(error)[0]
            said = f"{fault.where or 'the body'}: {fault.message}"
            return problem(HTTPStatus.BAD_REQUEST, "invalid_request", said)
        if asked.model not in self._policy.bought:
            known = ", ".join(sorted(self._policy.bought)) or "none: the embedder is built into the cache"
            message = f"the policy names no embedder {asked.model!r}; known: {known}"
            return problem(HTTPStatus.NOT_FOUND, "model_not_found", message)
        return await self._answer(asked)

    async def _answer(self, asked: Asked) -> Response:
        outcome = "ok"
        try:
            embedded = await self._provider.embed(
                asked.texts,
                asked.model,
                dimensions=asked.dimensions or self._policy.dimensions,
                timeout_s=self._timeout_s,
            )
        except ProviderError as error:
            outcome = error.code
            log.warning("no embeddings", model=asked.model, code=error.code, error=str(error))
            return _failure(error)
        finally:
            metrics.EMBEDDINGS.labels(asked.model, outcome).inc()
        metrics.EMBEDDING_COST.labels(asked.model).inc(embedded.cost_usd)
        return JSONResponse(_document(asked.model, embedded))


def _document(model: str, embedded: Embedded) -> dict[str, Any]:
    data = [
        {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(embedded.vectors)
    ]
    usage = {"prompt_tokens": embedded.input_tokens, "total_tokens": embedded.input_tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _failure(error: ProviderError) -> JSONResponse:
    status = _STATUS.get(type(error), HTTPStatus.BAD_GATEWAY)
    later = isinstance(error, ProviderAuth)
    wait_s = error.retry_after_s
    if wait_s is None:
        wait_s = AUTH_AGAIN_S if later else RETRY_AFTER_S
    headers = {"Retry-After": str(math.ceil(wait_s))} if error.retryable or later else {}
    return problem(status, error.code, str(error), headers=headers)
