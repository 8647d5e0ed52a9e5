"""What people build who want a queue: FastAPI in front, Celery on RabbitMQ behind, an INSERT per task.

Set as its documentation says for work that must not be lost: quorum queues, confirmed publishing, late
acknowledgement, one task ahead per thread; a pool of threads, since a call is all waiting. A task that fails is tried
again with growing pauses, and one that fails for good leaves a row that says so.

The web application is ``python -m tests.bench.surge_celery PORT``, the worker Celery's own command.
"""

import os
import sys
from functools import cache
from typing import Any, Final
from uuid import UUID, uuid4

import uvicorn
from celery import Celery
from celery import Task as CeleryTask
from fastapi import FastAPI

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
import litellm

from tests.bench.surge_monolith import POOL, RETRIES, Question, lifespan

INSERT: Final = """
INSERT INTO answers (id, tenant, prompt, status, answer, tokens) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING
"""
FIND: Final = "SELECT status, answer FROM answers WHERE id = $1"

queue: Final = Celery("surge", broker=os.environ.get("BENCH_AMQP"))
queue.conf.update(
    task_default_queue="surge",
    task_default_queue_type="quorum",
    task_default_exchange_type="topic",  # or a task that is to be tried again later holds its thread until then
    broker_transport_options={"confirm_publish": True},
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
)


@cache
def pool() -> Any:
    """The worker's connections, opened when the first task wants one."""
    from psycopg_pool import ConnectionPool  # the web application has none of these

    return ConnectionPool(os.environ["BENCH_DSN"], min_size=1, max_size=POOL, open=True)


def keep(*row: Any) -> None:
    """Insert a row, in a transaction of its own."""
    with pool().connection() as connection:
        connection.execute(INSERT, row)


class Recorded(CeleryTask):  # type: ignore[misc]  # its class is untyped
    """A task whose failure is kept too."""

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """The last attempt has failed."""
        keep(UUID(task_id), *args, "failed", None, None)


def _answered(task: Any, tenant: str, prompt: str) -> None:
    done = litellm.completion(
        model=os.environ["BENCH_MODEL"],
        api_base=os.environ["BENCH_PROVIDER"],
        api_key="bench",
        messages=[{"role": "user", "content": prompt}],
        num_retries=RETRIES,
    )
    text, tokens = done.choices[0].message.content, done.usage.total_tokens
    keep(UUID(task.request.id), tenant, prompt, "completed", text, tokens)


answered: Final = queue.task(
    _answered,
    bind=True,
    base=Recorded,
    name="answered",
    autoretry_for=(Exception,),
    retry_backoff=True,
    max_retries=5,
)


app: Final = FastAPI(lifespan=lifespan)


@app.post("/tickets", status_code=202)
def submit(question: Question) -> dict[str, str]:
    """Put a task on the queue; in a thread, for publishing blocks until the broker confirms."""
    request_id = str(uuid4())
    answered.apply_async((question.tenant, question.prompt), task_id=request_id)
    return {"id": request_id, "status": "queued"}


@app.get("/tickets/{request_id}")
async def show(request_id: UUID) -> dict[str, Any]:
    """The row, once there is one."""
    row = await app.state.pool.fetchrow(FIND, request_id)
    if row is None:
        return {"id": str(request_id), "status": "queued"}
    return {"id": str(request_id), "status": row["status"], "output_text": row["answer"]}


@app.get("/readyz")
async def ready() -> None:
    """200: it runs."""


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
