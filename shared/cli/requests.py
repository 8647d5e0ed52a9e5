"""``forebay submit``, ``result``, ``rate``, ``publish`` and ``watch``."""

import json
from contextlib import suppress
from typing import Annotated, Any, Final

import typer
from rich.markup import escape

from shared import envelope, topology
from shared.broker import Message
from shared.cli.options import HOME, TENANT, Home, Tenant, err, out, run, running
from shared.client import AmqpClient, HttpClient
from shared.errors import BrokerUnavailable, UndecodableMessage
from shared.events import (
    AUTO,
    CacheAudited,
    CacheInvalidate,
    Event,
    Priority,
    RequestAccepted,
    RequestRated,
    RequestRejected,
    ResponseCompleted,
    ResponseFailed,
)
from shared.rabbitmq import RabbitBroker

Prompt = Annotated[str, typer.Argument(help="The prompt.")]
Model = Annotated[str, typer.Option(help="auto, light, premium, or a model of the policy.")]
Urgency = Annotated[Priority, typer.Option(help="interactive or bulk.")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Stay until there is a result.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


# What replicas tell each other of what they count: of no request.
COUNTS: Final = frozenset({"lane.reported", "queue.aged", "queue.reported", "router.scored", "topic.counted"})


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (submit, result, cancel, rate, publish, watch):
        app.command()(command)


def submit(
    prompt: Prompt,
    home: Home = HOME,
    model: Model = AUTO,
    tenant: Tenant = TENANT,
    priority: Urgency = Priority.INTERACTIVE,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Submit a prompt over HTTP."""
    stack = running(home)

    async def work() -> dict[str, Any]:
        async with HttpClient(stack.http_url, tenant=tenant) as client:
            body = {"input": prompt, "model": model}
            return await (client.finished(body, priority=priority) if wait else client.submit(body, priority=priority))

    _show(run(work()), as_json=as_json)


def result(
    request_id: Annotated[str, typer.Argument(help="Its id.")],
    home: Home = HOME,
    tenant: Tenant = TENANT,
    as_json: AsJson = False,
) -> None:
    """Show a request and, when it is finished, its result."""
    stack = running(home)

    async def work() -> dict[str, Any]:
        async with HttpClient(stack.http_url, tenant=tenant) as client:
            return await client.result(request_id)

    _show(run(work()), as_json=as_json)


def cancel(
    request_id: Annotated[str, typer.Argument(help="Its id.")],
    home: Home = HOME,
    tenant: Tenant = TENANT,
    as_json: AsJson = False,
) -> None:
    """Say that a request is needed no more: it ends as cancelled where nothing was spent on it yet."""
    stack = running(home)

    async def work() -> dict[str, Any]:
        async with HttpClient(stack.http_url, tenant=tenant) as client:
            return await client.cancel(request_id)

    shown = run(work())
    _show(shown, as_json=as_json)
    if shown["status"] == "queued":
        err.print("[dim]asked to cancel; if a provider has it already, its answer still comes[/dim]")


def rate(
    request_id: Annotated[str, typer.Argument(help="Its id.")],
    quality: Annotated[float, typer.Argument(min=0, max=1, help="0: useless, 1: as good as can be.")],
    comment: Annotated[str, typer.Option(help="Kept with it.")] = "",
    home: Home = HOME,
    tenant: Tenant = TENANT,
    as_json: AsJson = False,
) -> None:
    """Say how good the answer to a request is; the last word on it counts."""
    stack = running(home)

    async def work() -> dict[str, Any]:
        async with HttpClient(stack.http_url, tenant=tenant) as client:
            return await client.rate(request_id, quality, comment=comment)

    rated = run(work())
    if as_json:
        out.print_json(json.dumps(rated))
    else:
        out.print(f"rated {rated['quality']:g}: {rated['request_id']}", highlight=False)


def publish(
    prompt: Prompt,
    home: Home = HOME,
    model: Model = AUTO,
    tenant: Tenant = TENANT,
    priority: Urgency = Priority.INTERACTIVE,
    wait: Wait = False,
) -> None:
    """Publish a prompt to the exchange, as any AMQP client would."""
    stack = running(home)

    async def work() -> bool:
        async with AmqpClient.connect(stack.amqp_url, tenant=tenant) as client:
            answer = await client.publish({"input": prompt, "model": model}, priority=priority)
            err.print("[dim]published, confirmed by the broker[/dim]")
            if not wait:
                err.print("[dim]its id is made later, and a mistake in it is found later: --wait stays for that[/dim]")
                return True
            event = await answer
            out.print_json(json.dumps(event))
            return "code" not in event

    if not run(work()):
        raise typer.Exit(1)


def watch(
    home: Home = HOME,
    everything: Annotated[bool, typer.Option("--all", help="Also what replicas count and tell each other.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print events as they happen, until Ctrl-C."""
    stack = running(home)

    async def work() -> None:
        async with RabbitBroker(stack.amqp_url, name="forebay watch") as broker:
            err.print("[dim]watching; Ctrl-C ends it[/dim]")
            while True:
                await broker.wait_connected()
                with suppress(BrokerUnavailable):
                    await _follow(broker, everything=everything, as_json=as_json)
                err.print("[dim]the broker went away; waiting for it[/dim]")

    run(work())


async def _follow(broker: RabbitBroker, *, everything: bool, as_json: bool) -> None:
    async with broker.subscribe(topology.ALL_EVENTS, prefetch=500) as events:
        while deliveries := await events.take(100):
            await events.ack(deliveries)
            for delivery in deliveries:
                if everything or delivery.message.routing_key not in COUNTS:
                    _print_event(delivery.message, as_json=as_json)


def _print_event(message: Message, *, as_json: bool) -> None:
    if as_json:
        line = {"routing_key": message.routing_key, "headers": dict(message.headers), "body": _body(message.body)}
        out.print(json.dumps(line, default=str), highlight=False, soft_wrap=True, markup=False)
        return
    subject = envelope.attribute(message, "subject") or ""
    out.print(
        f"{subject:36}  {message.routing_key:32}  {_summary(message)}", highlight=False, soft_wrap=True, markup=False
    )


def _body(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _summary(message: Message) -> str:
    try:
        event: Event = envelope.decode(message)
    except UndecodableMessage:
        return message.body[:200].decode(errors="replace")
    match event:
        case RequestAccepted(request=request):
            return repr(request.prompt[:60])
        case ResponseCompleted():
            return f"{event.latency_ms:.0f} ms  {event.output_text[:50]!r}"
        case ResponseFailed() | RequestRejected():
            return event.message[:80]
        case CacheInvalidate(selector=selector):
            return f"{selector.model_dump_json(exclude_none=True)}  {event.reason[:50]!r}"
        case RequestRated():
            return f"{event.quality:g} for {event.request_id}  {event.comment[:50]!r}"
        case CacheAudited():
            return f"{event.kind}: {'right' if event.same else 'wrong'}, similarity {event.evidence.similarity:.3f}"
        case _:
            return ", ".join(getattr(getattr(event, "route", None), "reasons", ()))


def _show(shown: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        out.print_json(json.dumps(shown))
        return
    if shown.get("output_text"):
        out.print(shown["output_text"], highlight=False, markup=False, soft_wrap=True)
    elif shown["status"] == "queued":
        out.print(shown["id"], highlight=False)
    if failure := shown.get("error"):
        err.print(f"[red]{failure['code']}[/red]: {escape(failure['message'])}", highlight=False)
    for warning in shown.get("warnings", ()):
        err.print(f"[yellow]{escape(warning)}[/yellow]", highlight=False)
    for line in _brownout(shown):
        err.print(f"[yellow]{escape(line)}[/yellow]", highlight=False)
    facts = [f"{shown['status']}", shown["id"]]
    if shown.get("source"):
        facts.append(f"from {shown['source']}")
    if (similarity := (shown.get("cache") or {}).get("similarity")) is not None:
        nearest = "nearest entry" if shown["cache"]["tier"] in ("miss", "bypass") else "similarity"
        facts.append(f"{nearest} {similarity:.3f}")
    if (lane := shown.get("lane")) is not None and (shown.get("failures") or shown["tier"] != lane):
        facts.append(f"lane {lane}")
    if shown.get("latency_ms") is not None:
        facts.append(f"{shown['latency_ms']:.0f} ms")
    if shown.get("cost_usd") is not None:
        facts.append(f"cost ${shown['cost_usd']:.6f}, saved ${shown['saved_usd']:.6f}")
    err.print(f"[dim]{'  ·  '.join(facts)}[/dim]", highlight=False, soft_wrap=True)
    if shown["status"] == "failed":
        raise typer.Exit(1)


def _brownout(shown: dict[str, Any]) -> list[str]:
    """The steps of the ladder that touched a request, or that hold while it waits."""
    notes = shown.get("brownout", ())
    if notes and shown["status"] == "queued":
        return [f"brownout, whether or not this one is touched: {', '.join(note['step'] for note in notes)}"]
    return [_browned_out(note) for note in notes]


def _browned_out(note: dict[str, Any]) -> str:
    """A step of the brownout ladder in a sentence."""
    detail = f": {note['detail']}" if note.get("detail") else ""
    return f"brownout, {note['step']}{detail} (the queue of {note['tier']} was {note['age_s']:.0f} s old)"
