"""The hops on Celery, with a pool of threads: ``… URL work|feed N``."""

from collections.abc import Sequence
from typing import Any

from celery import Celery
from celery.signals import worker_ready
from kombu import Exchange, Queue

from tests.bench.pipeline import hops

THREADS = 16


def _queue(name: str) -> Queue:
    return Queue(name, Exchange(name, "topic"), routing_key=name, queue_arguments={"x-queue-type": "quorum"})


def app_of(url: str, queues: Sequence[str]) -> Celery:
    """Set as Celery's documentation says for work that must not be lost."""
    app = Celery("hops", broker=url)
    app.conf.update(
        task_queues=[_queue(name) for name in queues],
        worker_detect_quorum_queues=True,
        broker_transport_options={"confirm_publish": True},
        task_acks_late=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=hops.PREFETCH // THREADS + 1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
    )
    return app


def options(queues: Sequence[str]) -> list[str]:
    """Of the worker."""
    return [
        "worker",
        "--pool=threads",
        f"--concurrency={THREADS}",
        f"--queues={','.join(queues)}",
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
        "--loglevel=error",
    ]


def _app(url: str) -> Celery:
    app = app_of(url, (*hops.QUEUES, hops.DONE))
    for name, following in hops.NEXT.items():
        _register(app, name, following)
    return app


def _register(app: Celery, name: str, following: str) -> None:
    def hop(body: dict[str, Any]) -> None:
        app.send_task(following, args=[hops.Body(**body).model_dump()], queue=following)

    app.task(hop, name=name)


def _work(url: str) -> None:
    app = _app(url)
    with app.connection() as connection:
        _queue(hops.DONE)(connection).declare()
    worker_ready.connect(lambda **_: hops.ready(), weak=False)
    app.worker_main(options(hops.QUEUES))


def _feed(url: str, count: int) -> None:
    app = _app(url)
    with app.producer_pool.acquire(block=True) as producer:
        for number in range(count):
            app.send_task(hops.QUEUES[0], args=[hops.body(number)], queue=hops.QUEUES[0], producer=producer)


if __name__ == "__main__":
    hops.main(_work, _feed)
