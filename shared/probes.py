"""``/healthz``, ``/readyz`` and ``/metrics``, the same in every service."""

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared.broker import Broker


def routes(broker: Broker) -> list[Route]:
    """Probe routes: healthy while the event loop turns, ready while there is a broker that takes messages."""

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        trouble = broker.trouble
        return JSONResponse({"broker": trouble or "connected"}, status_code=200 if trouble is None else 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
