"""Wiring of inference."""

from services.inference.embeddings import EmbeddingsDoor
from services.inference.handler import Inference
from services.inference.provider import Provider
from services.inference.shadow import Shadows
from shared import service, topology
from shared.cancellation import Cancellations


async def wire(it: service.Service) -> None:
    provider = Provider(it.policy, local_model_url=it.settings.local_model_url)
    inference = Inference(it.policy, provider, it.clock)
    cancelled = Cancellations(it.clock)
    it.consume(topology.CANCELLATIONS, cancelled.heard)
    routed = cancelled.before(inference.routed)
    for tier in it.policy.tiers:
        it.consume(topology.routed(tier), routed, concurrency=it.settings.inference_concurrency)
    shadows = Shadows(it.policy, provider, it.clock)
    it.consume(topology.SHADOWS, shadows.requested, concurrency=it.settings.shadow_concurrency)
    door = EmbeddingsDoor(it.policy.cache.embedder, provider, timeout_s=it.settings.embeddings_timeout_s)
    it.app.router.routes.append(door.route)


if __name__ == "__main__":
    service.run("inference", wire)
