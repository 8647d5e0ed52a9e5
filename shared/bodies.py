"""Bodies of HTTP requests, read no further than they may go."""

from starlette.requests import Request

from shared.errors import RequestTooLarge


async def body_within(request: Request, most_bytes: int) -> bytes:
    """The body; raises RequestTooLarge for one of more than ``most_bytes``, before it is read to its end."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise RequestTooLarge(f"the body has more than {most_bytes} bytes")
    return bytes(body)
