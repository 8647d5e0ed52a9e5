"""What all HTTP calls have in common: whose they are, what they carry, and what they need of the process."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final, Protocol

from fastapi import Header
from pydantic import BaseModel
from starlette.requests import Request

from services.ingest.intake import Intake
from shared import envelope
from shared.broker import Broker
from shared.clock import Clock
from shared.problems import MEDIA_TYPE

TENANT: Final = "Forebay-Tenant"
TenantHeader = Annotated[str | None, Header(alias=TENANT, description="whose request it is")]


class Process(Protocol):
    """What a door needs of the process it is in.

    Attributes:
        stopping: ends all waits: who waited gets 202 and asks again, elsewhere.
    """

    @property
    def broker(self) -> Broker: ...

    clock: Clock
    stopping: asyncio.Event


async def body_of(request: Request, intake: Intake) -> bytes:
    """The body; raises RequestTooLarge before it is read to its end."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        intake.check_size(len(body))
    return bytes(body)


def carries(body: type[BaseModel]) -> dict[str, Any]:
    """How the framework is told of a body that a door reads by itself."""
    schema = {"$ref": f"#/components/schemas/{body.__name__}"}
    return {"requestBody": {"required": True, "content": {envelope.JSON: {"schema": schema}}}}


def responses(
    model: type[BaseModel], good: Mapping[int, str], bad: tuple[HTTPStatus, ...]
) -> dict[int | str, dict[str, Any]]:
    """How the framework is told of answers and problems; 503 is always among these."""
    fine: dict[int | str, dict[str, Any]] = {
        status: {"model": model, "description": text} for status, text in good.items()
    }
    wrong = {
        status.value: {"description": status.phrase, "content": {MEDIA_TYPE: {}}}
        for status in (*bad, HTTPStatus.SERVICE_UNAVAILABLE)
    }
    return fine | wrong
