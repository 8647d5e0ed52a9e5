"""The whole path on Celery, with a pool of threads: ``… URL``, with database and provider in the environment."""

import os
import re
import sys
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.signals import worker_ready
from psycopg_pool import ConnectionPool

from shared.embedding.builtin import Embedder
from tests.bench.pipeline import hops, work
from tests.bench.pipeline.by_celery import app_of, options

import litellm  # isort: skip  # after work, which tells it to stay off the network


class Stages:
    """The five of them."""

    def __init__(self, pool: ConnectionPool, embedder: Embedder) -> None:
        self._pool = pool
        self._embedder = embedder

    def taken(self, asked: work.Asked) -> work.Asked:
        self._run(work.INSERT_ASKED, *work.taken(asked))
        return asked

    def looked(self, asked: work.Asked) -> work.Asked:
        found = self._run(work.EXACT, asked.key).fetchone()
        if found is not None:
            return asked.model_copy(update={"answer": found[0], "source": "cache"})
        vector = work.written(self._embedder.embed_now([asked.prompt])[0])
        near = self._run(work.NEAREST, vector, asked.tenant).fetchone()
        if near is not None and near[1] >= work.NEAR:
            return asked.model_copy(update={"answer": near[0], "source": "cache"})
        return asked.model_copy(update={"embedding": vector})

    def chosen(self, asked: work.Asked) -> work.Asked:
        return work.chosen(asked)

    def answered(self, asked: work.Asked) -> work.Asked:
        return work.answered(asked, litellm.completion(**work.completion(asked)))

    def kept(self, asked: work.Asked) -> work.Asked:
        self._run(work.INSERT_ANSWER, *work.row(asked))
        if asked.embedding is not None:
            self._run(work.INSERT_CACHED, *work.cached(asked))
        return asked

    def _run(self, statement: str, *values: Any) -> Any:
        """psycopg has another mark for a place than asyncpg."""
        named = {f"p{number}": value for number, value in enumerate(values, start=1)}
        with self._pool.connection() as connection:
            return connection.execute(re.sub(r"\$(\d+)", r"%(p\1)s", statement), named)


def _register(app: Celery, name: str, stage: Callable[[work.Asked], work.Asked]) -> None:
    def task(body: dict[str, Any]) -> None:
        done = stage(work.Asked(**body))
        following = work.after(name, done)
        if following is not None:
            app.send_task(following, args=[done.model_dump(mode="json")], queue=following)

    app.task(task, name=name)


def main(url: str) -> None:
    """Run the worker."""
    app = app_of(url, work.STAGES)
    with ConnectionPool(os.environ[work.DSN], min_size=1, max_size=work.POOL) as pool:
        stages = Stages(pool, Embedder())
        for name in work.STAGES:
            _register(app, name, getattr(stages, name))
        worker_ready.connect(lambda **_: hops.ready(), weak=False)
        app.worker_main(options(work.STAGES))


if __name__ == "__main__":
    main(sys.argv[1])
