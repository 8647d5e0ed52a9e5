"""Wiring of the router."""

from services.router.choice import choosing
from services.router.handler import Router
from shared import service, topology


async def wire(it: service.Service) -> None:
    it.consume(topology.MISSED, Router(it.policy, await choosing(it)).missed)


if __name__ == "__main__":
    service.run("router", wire)
