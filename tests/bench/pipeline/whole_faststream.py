"""The whole path on FastStream: ``… URL``, with the database and the provider in the environment."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from faststream import AckPolicy
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

from shared import loop
from shared.embedding.builtin import Embedder
from tests.bench.pipeline import hops, work

import litellm  # isort: skip  # after work, which tells it to stay off the network


class Stages:
    """The five of them."""

    def __init__(self, pool: Any, embedder: Embedder) -> None:
        self._pool = pool
        self._embedder = embedder

    async def taken(self, asked: work.Asked) -> work.Asked:
        await self._pool.execute(work.INSERT_ASKED, *work.taken(asked))
        return asked

    async def looked(self, asked: work.Asked) -> work.Asked:
        found = await self._pool.fetchval(work.EXACT, asked.key)
        if found is not None:
            return asked.model_copy(update={"answer": found, "source": "cache"})
        vector = work.written((await self._embedder.embed([asked.prompt]))[0])
        near = await self._pool.fetchrow(work.NEAREST, vector, asked.tenant)
        if near is not None and near["similarity"] >= work.NEAR:
            return asked.model_copy(update={"answer": near["answer"], "source": "cache"})
        return asked.model_copy(update={"embedding": vector})

    async def chosen(self, asked: work.Asked) -> work.Asked:
        return work.chosen(asked)

    async def answered(self, asked: work.Asked) -> work.Asked:
        return work.answered(asked, await litellm.acompletion(**work.completion(asked)))

    async def kept(self, asked: work.Asked) -> work.Asked:
        await self._pool.execute(work.INSERT_ANSWER, *work.row(asked))
        if asked.embedding is not None:
            await self._pool.execute(work.INSERT_CACHED, *work.cached(asked))
        return asked


async def _main(url: str) -> None:
    broker = RabbitBroker(url, default_channel=Channel(prefetch_count=hops.PREFETCH), logger=None)

    def subscribe(name: str, stage: Callable[[work.Asked], Awaitable[work.Asked]]) -> None:
        queue = RabbitQueue(name, durable=True, queue_type=QueueType.QUORUM)

        @broker.subscriber(queue, ack_policy=AckPolicy.REJECT_ON_ERROR)  # type: ignore[untyped-decorator]  # not installed where types are checked
        async def handle(body: work.Asked) -> None:
            done = await stage(body)
            following = work.after(name, done)
            if following is not None:
                await broker.publish(done, queue=following, persist=True)

    async with asyncpg.create_pool(os.environ[work.DSN], min_size=1, max_size=work.POOL) as pool:
        stages = Stages(pool, Embedder())
        for name in work.STAGES:
            subscribe(name, getattr(stages, name))
        async with broker:
            await broker.start()
            hops.ready()
            await asyncio.Event().wait()


if __name__ == "__main__":
    loop.run(_main(sys.argv[1]))
