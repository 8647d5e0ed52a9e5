"""Documents generated from the code: AsyncAPI 3, OpenAPI 3 and the table of settings.

``make docs`` writes them; a test fails while a committed one is stale.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.ingest.cache_door import CacheDoor
from services.ingest.http_door import HttpDoor, application
from services.ingest.rating_door import RatingDoor
from services.ingest.topic_door import TopicDoor
from shared import __version__, envelope
from shared.events import (
    EVENTS,
    CacheInvalidate,
    CacheWarm,
    Event,
    RequestRated,
    RequestSubmitted,
    TopicSettled,
    TopicTrending,
)
from shared.examples import example
from shared.settings import PREFIX, Settings
from shared.telemetry import tracing
from shared.topology import EXCHANGES, Queue, topology

DOCS: Final = Path(__file__).parent.parent / "docs"
# Tiers are a policy's; these are those of the policy that ships.
TIERS: Final = ("light", "premium")
# What is also understood without headers, and as what.
_BARE: Final[Mapping[type[Event] | type[RequestSubmitted], type[BaseModel]]] = {
    CacheInvalidate: envelope.BareInvalidation,
    TopicTrending: envelope.BareTopic,
    TopicSettled: envelope.BareTopic,
    RequestRated: envelope.BareRating,
}
_ATTRIBUTES: Final = ("specversion", "id", "source", "type", "subject", "time", "tenant")


def documents() -> Mapping[str, str]:
    """All documents by file name."""
    return {
        "asyncapi.json": _json(asyncapi()),
        "openapi.json": _json(openapi()),
        "settings.md": settings(),
    }


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3 of the exchanges, queues and events."""
    kinds: tuple[type[Event] | type[RequestSubmitted], ...] = (RequestSubmitted, *EVENTS.values())
    _, schemas = models_json_schema(
        [(kind, "validation") for kind in (*kinds, *_BARE.values())],
        ref_template="#/components/schemas/{model}",
    )
    messages = {kind.__name__: _message(kind) for kind in kinds}
    exchanges = {exchange.name: _exchange_channel(exchange.name, kinds) for exchange in EXCHANGES}
    queues = {queue.name: _queue_channel(queue) for queue in topology(TIERS).queues}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Forebay",
            "version": __version__,
            "description": "Events between the services of Forebay, and the public AMQP door: publish to "
            "`forebay.requests` with the key `request.submitted[.<priority>[.<tenant>]]`, or to `forebay.signals` with "
            "the key `cache.invalidate`, `topic.trending`, `topic.settled` or `request.rated`; bare JSON will do at "
            "either.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": envelope.JSON,
        "channels": exchanges | queues,
        "operations": {
            "submit": _operation("forebay.requests", "receive", [RequestSubmitted.__name__]),
            "invalidate": _operation("forebay.signals", "receive", [CacheInvalidate.__name__]),
            "topics": _operation("forebay.signals", "receive", [TopicTrending.__name__, TopicSettled.__name__]),
            "rate": _operation("forebay.signals", "receive", [RequestRated.__name__]),
            "warm": _operation("forebay.signals", "receive", [CacheWarm.__name__]),
        }
        | {
            f"publish{name}": _operation(kind.EXCHANGE.name, "send", [name])
            for name, kind in ((kind.__name__, kind) for kind in EVENTS.values())
        },
        "components": {"messages": messages, "schemas": schemas["$defs"]},
    }


def _message(kind: type[Event] | type[RequestSubmitted]) -> dict[str, Any]:
    headers = {envelope.PREFIX + name: {"type": "string"} for name in _ATTRIBUTES}
    return {
        "name": kind.TYPE,
        "title": kind.__name__,
        "summary": (kind.__doc__ or "").strip().splitlines()[0],
        "contentType": envelope.JSON,
        "headers": {"type": "object", "properties": headers | {tracing.HEADER: {"type": "string"}}},
        "payload": _payload(kind),
        "bindings": {"amqp": {"messageType": kind.TYPE}},
        "examples": [{"payload": _example(kind)}],
    }


def _payload(kind: type[Event] | type[RequestSubmitted]) -> dict[str, Any]:
    own = {"$ref": f"#/components/schemas/{kind.__name__}"}
    if kind not in _BARE:
        return own
    bare = {"$ref": f"#/components/schemas/{_BARE[kind].__name__}"}
    return {"anyOf": [own, bare], "description": "the second where there are no CloudEvents headers"}


def _example(kind: type[Event] | type[RequestSubmitted]) -> Any:
    if issubclass(kind, Event):
        return json.loads(example(kind).model_dump_json(exclude_none=True))
    return {"input": "What is the capital of France?"}


def _exchange_channel(name: str, kinds: tuple[type[Event] | type[RequestSubmitted], ...]) -> dict[str, Any]:
    own = [kind for kind in kinds if kind.EXCHANGE.name == name]
    return {
        "address": None,
        "title": name,
        "description": "; ".join(f"`{kind.PATTERN}`: {kind.__name__}" for kind in own) or "see the queues bound to it",
        "messages": {kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"} for kind in own},
        "bindings": {
            "amqp": {"is": "routingKey", "exchange": {"name": name, "type": "topic", "durable": True, "vhost": "/"}}
        },
    }


def _queue_channel(queue: Queue) -> dict[str, Any]:
    bound = "; ".join(f"`{binding.pattern}` on `{binding.exchange.name}`" for binding in queue.bindings)
    return {
        "address": queue.name,
        "description": f"side queue of `{queue.side_of}`" if queue.side_of else f"bound to {bound}",
        "bindings": {
            "amqp": {
                "is": "queue",
                "queue": {"name": queue.name, "durable": True, "exclusive": False, "autoDelete": False, "vhost": "/"},
            }
        },
    }


def _operation(channel: str, action: str, names: list[str]) -> dict[str, Any]:
    pointer = channel.replace("~", "~0").replace("/", "~1")
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{pointer}"},
        "messages": [{"$ref": f"#/channels/{pointer}/messages/{name}"} for name in names],
    }


def openapi() -> dict[str, Any]:
    """OpenAPI 3 of the HTTP door."""
    # Their methods are described, never called.
    http, cache = HttpDoor.__new__(HttpDoor), CacheDoor.__new__(CacheDoor)
    topics, ratings = TopicDoor.__new__(TopicDoor), RatingDoor.__new__(RatingDoor)
    return application(http, cache, topics, ratings, __version__).openapi()


def settings() -> str:
    """Every setting with its default and meaning, as Markdown."""
    rows = [f"| `{PREFIX}{name.upper()}` | {default} | {meaning} |" for name, default, meaning in Settings.table()]
    head = ("# Settings", "", "Generated by `make docs`; `forebay settings` prints the same.", "")
    return "\n".join([*head, "| variable | default | meaning |", "|---|---|---|", *rows, ""])


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, text in documents().items():
        (DOCS / name).write_text(text, encoding="utf-8")
