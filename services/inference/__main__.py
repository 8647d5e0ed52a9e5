"""Wiring of inference."""

from services.inference.handler import Inference
from services.inference.provider import Provider
from shared import service, topology


async def wire(it: service.Service) -> None:
    inference = Inference(it.policy, Provider(it.policy, local_model_url=it.settings.local_model_url), it.clock)
    for tier in it.policy.tiers:
        it.consume(topology.routed(tier), inference.routed, concurrency=it.settings.inference_concurrency)


if __name__ == "__main__":
    service.run("inference", wire)
