"""Calls to models through litellm: the only file that imports it.

litellm takes seconds to import and, unless told otherwise, fetches its price table from the network when it is; so it
is imported when the service starts, with ``LITELLM_LOCAL_MODEL_COST_MAP`` set.
"""

import asyncio
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
import structlog

from services.inference.completion import Completion, Embedded
from services.inference.errors import (
    ContentFiltered,
    ContextWindowExceeded,
    ProviderAuth,
    ProviderError,
    ProviderFault,
    ProviderMissing,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnreachable,
    RateLimited,
)
from services.inference.lanes.said import Said, said
from shared.errors import StartupError
from shared.events import OutputFormat, Request, Usage
from shared.policy import Policy
from shared.policy.tiers import LOCAL, Lane, Price, Tier

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
import litellm
from litellm import exceptions as theirs

log = structlog.stdlib.get_logger(__name__)

litellm.suppress_debug_info = True
litellm.telemetry = False
# Attempts are ours to count; for embeddings it takes max_retries=0 for "not said".
litellm.DEFAULT_MAX_RETRIES = 0  # type: ignore[attr-defined]  # not listed in its __all__
# It logs each call, through a handler of its own.
logging.getLogger("LiteLLM").handlers.clear()
logging.getLogger("LiteLLM").setLevel(logging.WARNING)

# Most specific first: several of litellm's classes are subclasses of others in the list.
MAPPED: Final[tuple[tuple[type[Exception], type[ProviderError]], ...]] = (
    (theirs.ContextWindowExceededError, ContextWindowExceeded),
    (theirs.ContentPolicyViolationError, ContentFiltered),
    (theirs.RateLimitError, RateLimited),
    (theirs.Timeout, ProviderTimeout),
    (theirs.AuthenticationError, ProviderAuth),
    (theirs.PermissionDeniedError, ProviderAuth),
    (theirs.APIConnectionError, ProviderUnreachable),
    (theirs.InternalServerError, ProviderFault),
    (theirs.ServiceUnavailableError, ProviderFault),
    (theirs.BadGatewayError, ProviderFault),
    (theirs.APIResponseValidationError, ProviderFault),
    (theirs.NotFoundError, ProviderMissing),
    (theirs.UnprocessableEntityError, ProviderRefused),
    (theirs.BadRequestError, ProviderRefused),
)
_STATUS: Final[Mapping[int, type[ProviderError]]] = {
    401: ProviderAuth,
    402: ProviderAuth,
    403: ProviderAuth,
    404: ProviderMissing,
    408: ProviderTimeout,
    409: ProviderFault,  # a lock or a conflict at the provider's: it passes
    429: RateLimited,
    504: ProviderTimeout,
}
# What a provider says in ``code``: about a prompt, or that there is no money left, which no waiting helps.
_CODES: Final[Mapping[str, type[ProviderError]]] = {
    "content_filter": ContentFiltered,
    "content_policy_violation": ContentFiltered,
    "context_length_exceeded": ContextWindowExceeded,
    "insufficient_quota": ProviderAuth,
}
# What litellm's own time needs to be heard of before ours.
GRACE_S: Final = 0.5
_NOT_STORABLE: Final = re.compile("[\x00\ud800-\udfff]")
SERVER_ERRORS: Final = 500
CLIENT_ERRORS: Final = 400


class Provider:
    """Calls the models of a policy."""

    def __init__(self, policy: Policy, *, local_model_url: str) -> None:
        """Raises StartupError where the environment lacks a key that the policy names."""
        self._prices = policy.prices
        self._local_model_url = local_model_url
        lanes = [lane for tier in policy.tiers.values() for lane in tier.lanes]
        self._targets = {lane.name: self._lane_target(lane) for lane in lanes}
        for model in {lane.priced_model for lane in lanes}:
            if self.price(model, Usage(input_tokens=1, output_tokens=1)) is None:
                log.warning("no list price is known: costs will read 0", model=model)

    async def complete(self, request: Request, tier: Tier, lane: Lane, *, timeout_s: float) -> Completion:
        """One call on a lane of a tier.

        Raises:
            ProviderError: whatever went wrong, as one of its classes.
        """
        tokens = min(request.max_output_tokens or tier.max_output_tokens, tier.max_output_tokens)
        try:
            # litellm's time is for each read: an answer that drips never exceeds it.
            async with asyncio.timeout(timeout_s + GRACE_S):
                response = await litellm.acompletion(
                    messages=_messages(request),
                    max_tokens=tokens,
                    temperature=request.temperature,
                    top_p=request.top_p,
                    response_format=_response_format(request.output_format),
                    extra_headers={"x-request-id": str(request.id)},
                    timeout=timeout_s,
                    num_retries=0,
                    max_retries=0,
                    **self._targets[lane.name],
                )
        except TimeoutError as error:
            raise ProviderTimeout(f"no whole answer within {timeout_s:g} s") from error
        except Exception as error:
            failure = translated(error)
            failure.said = _said_in_error(error)
            raise failure from error
        return self._completion(response, lane)

    async def embed(self, texts: list[str], model: str, *, dimensions: int | None, timeout_s: float) -> Embedded:
        """Vectors of some texts, in one call.

        Models that can give shorter vectors are asked for as many dimensions; others give what they have.

        Raises:
            ProviderError: whatever went wrong, as one of its classes.
        """
        try:
            response = await litellm.aembedding(
                input=texts,
                dimensions=dimensions,
                drop_params=True,
                encoding_format="float",
                timeout=timeout_s,
                num_retries=0,
                max_retries=0,
                **self._target(model),
            )
        except Exception as error:
            raise translated(error) from error
        vectors, tokens = _vectors(response, len(texts))
        cost_usd = self.price(model, Usage(input_tokens=tokens, output_tokens=0)) or 0.0
        return Embedded(vectors, tokens, cost_usd)

    def _lane_target(self, lane: Lane) -> dict[str, str]:
        target = self._target(lane.model) | lane.options
        if lane.api_base is not None:
            target["api_base"] = str(lane.api_base).rstrip("/")
        if lane.api_key_env is not None:
            key = os.environ.get(lane.api_key_env)
            if not key:
                raise StartupError(f"lane {lane.name}: the environment has no {lane.api_key_env}, its api_key_env")
            target["api_key"] = key
        return target

    def _target(self, model: str) -> dict[str, str]:
        if not model.startswith(LOCAL):
            return {"model": model}
        name = model.removeprefix(LOCAL)
        return {"model": f"openai/{name}", "api_base": self._local_model_url, "api_key": "not needed"}

    def _completion(self, response: Any, lane: Lane) -> Completion:
        try:
            choice = response.choices[0]
            text = choice.message.content
            usage = Usage(
                input_tokens=response.usage.prompt_tokens,
                output_tokens=response.usage.completion_tokens,
            )
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise ProviderFault(f"the answer makes no sense: {error}") from error
        if choice.finish_reason == "content_filter":
            raise ContentFiltered("the provider's filter stopped the answer")
        if not isinstance(text, str) or not text.strip():
            if choice.finish_reason == "length":  # a model that reasons can use up its tokens before it answers
                raise ProviderRefused("max_output_tokens were used up before the answer began")
            raise ProviderFault("the answer is empty")
        return Completion(
            text=_storable(text),
            usage=usage,
            finish_reason=choice.finish_reason,
            cost_usd=self.price(lane.priced_model, usage) or 0.0,
            said=said(_hidden_headers(response)),
        )

    def price(self, model: str, usage: Usage) -> float | None:
        """US dollars for some tokens: the policy's price, else litellm's, else unknown."""
        price: Price | None = self._prices.get(model)
        if price is not None:
            return (usage.input_tokens * price.input + usage.output_tokens * price.output) / 1e6
        try:
            costs = litellm.cost_per_token(
                model=model, prompt_tokens=usage.input_tokens, completion_tokens=usage.output_tokens
            )
        except Exception:  # litellm raises a bare Exception for a model it does not know
            return None
        return sum(cost or 0.0 for cost in costs)


def translated(error: Exception) -> ProviderError:
    """A litellm exception as one of ours; docs/errors.md has the table."""
    message = _storable(str(error).removeprefix("litellm.")[:500])
    return _kind(error)(message, retry_after_s=retry_after_s(error), status=_answered(error))


def _kind(error: Exception) -> type[ProviderError]:
    """What the provider answered decides, then litellm's class.

    litellm also goes by words anywhere in the answer, and makes a rate limit of a 400 that repeats a prompt about one.
    """
    named = next((ours for known, ours in MAPPED if isinstance(error, known)), None)
    status = _answered(error)
    if status is None:
        if named in (None, ProviderFault) and _is_connection_error(error):
            return ProviderUnreachable
        said = getattr(error, "status_code", None)
        if isinstance(said, int):
            return _STATUS.get(said) or named or _by_status(said)
        return named or ProviderFault
    kind = _STATUS.get(status) or _by_status(status)
    if kind is RateLimited and _by_code(error) is ProviderAuth:
        return ProviderAuth
    if kind is ProviderRefused:
        about_prompt = _by_code(error) or named
        if about_prompt in (ContextWindowExceeded, ContentFiltered):
            return about_prompt
    return kind


def _by_status(status: int) -> type[ProviderError]:
    return ProviderRefused if CLIENT_ERRORS <= status < SERVER_ERRORS else ProviderFault


def retry_after_s(error: Exception, *, now: datetime | None = None) -> float | None:
    """Seconds the provider asked us to wait: ``retry-after-ms``, or ``Retry-After`` in seconds or as a date."""
    for headers in _headers(error):
        for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
            with suppress(TypeError, ValueError):
                seconds = float(headers.get(name) or "") / scale
                if math.isfinite(seconds):
                    return max(0.0, seconds)
        with suppress(TypeError, ValueError):
            until = parsedate_to_datetime(headers.get("retry-after") or "")
            return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())
    return None


def _headers(error: Exception) -> Iterator[Mapping[str, str]]:
    """Where the headers of the provider's answer may be; litellm often leaves those of ``response`` empty."""
    for headers in (
        getattr(error, "litellm_response_headers", None),
        getattr(getattr(error, "response", None), "headers", None),
        getattr(error, "headers", None),
    ):
        if headers:
            yield headers


def _said_in_error(error: Exception) -> Said | None:
    return next((known for headers in _headers(error) if (known := said(headers)) is not None), None)


def _hidden_headers(response: Any) -> Mapping[str, str]:
    """The headers of the provider's answer, as litellm hands them on."""
    hidden = getattr(response, "_hidden_params", None) or {}
    return {
        name.removeprefix("llm_provider-"): value for name, value in (hidden.get("additional_headers") or {}).items()
    }


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it, as far as this call goes: beyond an error of ours lies an earlier one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ProviderError):
        yield cause
        cause = cause.__cause__ or cause.__context__


def _answered(error: Exception) -> int | None:
    """The status that the provider answered with, where it is known; litellm's errors have some of their own."""
    answers = (cause.response for cause in _causes(error) if isinstance(cause, httpx.HTTPStatusError))
    return next((answer.status_code for answer in answers), None)


def _by_code(error: Exception) -> type[ProviderError] | None:
    """What the ``code`` in the provider's answer says about the prompt, if anything; litellm adds codes of its own."""
    codes = (getattr(cause, "code", None) for cause in _causes(error))
    return next((_CODES[code] for code in codes if isinstance(code, str) and code in _CODES), None)


def _is_connection_error(error: Exception) -> bool:
    """Whether no connection is at the bottom of it: litellm tells it as an error of the server."""
    return any(isinstance(cause, httpx.ConnectError | ConnectionRefusedError) for cause in _causes(error))


def _messages(request: Request) -> list[dict[str, str]]:
    instructions = [{"role": "system", "content": request.instructions}] if request.instructions else []
    turns = [{"role": turn.role, "content": turn.content} for turn in request.earlier]
    return [*instructions, *turns, {"role": "user", "content": request.prompt}]


def _response_format(output: OutputFormat | None) -> dict[str, Any] | None:
    """The same in the words of chat completions."""
    if output is None:
        return None
    if output.json_schema is None:
        return {"type": output.type}
    return {"type": output.type, output.type: output.model_dump(exclude={"type"}, exclude_none=True)}


def _vectors(response: Any, count: int) -> tuple[list[list[float]], int]:
    """The vectors in the order of the texts, and the tokens these had; raises ProviderFault."""
    try:
        vectors = {item["index"]: item["embedding"] for item in response.data}
        ordered = [[float(number) for number in vectors[index]] for index in range(count)]
        tokens = int(response.usage.prompt_tokens) if response.usage else 0
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProviderFault(f"the embeddings make no sense: {error!r}") from error
    if not all(ordered):
        raise ProviderFault("the embeddings make no sense: one is empty")
    return ordered, tokens


def _storable(text: str) -> str:
    """Text that PostgreSQL and JSON take: NUL and lone surrogates become U+FFFD."""
    return _NOT_STORABLE.sub("\ufffd", text)
