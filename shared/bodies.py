"""Bodies of HTTP requests, read no further than they may go."""

from typing import Final

from starlette.requests import Request

from shared.errors import NoJson, RequestTooLarge

JSON: Final = "application/json"


async def json_within(request: Request, most_bytes: int) -> bytes:
    """The body of a request that says it is JSON; raises NoJson for another, else as :func:`body_within`.

    A page that somebody has open in a browser can send text and forms to any address the browser reaches, without
    asking; it can't send JSON unless the address agrees (CORS), which none of ours does.
    """
    said = request.headers.get("Content-Type", "")
    if said.partition(";")[0].strip().lower() != JSON:
        raise NoJson(f"Content-Type must be {JSON}, not {said or 'left out'}", pointer="Content-Type")
    return await body_within(request, most_bytes)


async def body_within(request: Request, most_bytes: int) -> bytes:
    """The body; raises RequestTooLarge for one of more than ``most_bytes``, before it is read to its end."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise RequestTooLarge(f"the body has more than {most_bytes} bytes")
    return bytes(body)
