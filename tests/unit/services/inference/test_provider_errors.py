"""The table of docs/errors.md, each row provoked with litellm itself against the simulated provider on loopback."""

import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import litellm
import pytest
import pytest_asyncio

from infra.simulator.engine import Ordered
from infra.simulator.scenario import Answer, Scenario
from services.inference.completion import Completion
from services.inference.errors import (
    ContentFiltered,
    ContextWindowExceeded,
    ProviderError,
    ProviderFault,
    ProviderRefused,
    RateLimited,
)
from services.inference.provider import Provider
from tests.support import make
from tests.support.simulated_provider import SimulatedProvider, error, raw

pytestmark = [
    # litellm keeps its HTTP clients by event loop.
    pytest.mark.asyncio(loop_scope="module"),
    # pydantic, about the types of litellm's answers.
    pytest.mark.filterwarnings("ignore:Item .* is using the `ReadOnly` qualifier:UserWarning"),
]

DOCUMENT: Final = Path(__file__).parents[4] / "docs" / "errors.md"
POLICY: Final = make.policy()
LIGHT: Final = POLICY.tiers["light"]
TIMEOUT_S: Final = 0.2
# Nothing real takes as long: a byte of an answer that drips comes after every timeout.
SCENARIO: Final = Scenario(answer=Answer(drip_s=600))
_STATUSES: Final = (400, 401, 402, 403, 404, 408, 409, 413, 422, 500, 502, 503, 504, 529)
FAULTS: Final[Mapping[str, Ordered]] = {
    **{str(status): Ordered(kind="status", status=status) for status in _STATUSES},
    "429 with Retry-After": Ordered(kind="status", status=429, retry_after_s=7),
    "429 without Retry-After": Ordered(kind="status", status=429),
    "no answer in time": Ordered(kind="hang"),
    "an answer that stops midway": Ordered(kind="drip"),
    "a connection that breaks before the answer": Ordered(kind="reset"),
    "a connection that breaks midway": Ordered(kind="cut"),
    "no JSON": Ordered(kind="malformed"),
    "no choices": Ordered(kind="empty_choices"),
    "a filter stopped the answer": Ordered(kind="content_filter"),
    "a filter refused the prompt": Ordered(kind="content_refused"),
    "the context window is too small": Ordered(kind="context_window"),
}


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    provider: str
    raised: str
    kind: str
    code: str
    retryable: str
    prompt_at_fault: str


def documented() -> dict[str, Row]:
    lines = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    rows = [Row(*(cell.strip() for cell in line.strip("|").split("|"))) for line in lines[1:]]
    return {row.provider: row for row in rows}


def seen(provider: str, found: ProviderError) -> Row:
    """The row an error belongs into."""
    cause = found.__cause__
    theirs = type(cause).__module__.startswith("litellm")
    return Row(
        provider=provider,
        raised=type(cause).__name__ if theirs else "nothing",
        kind=type(found).__name__,
        code=f"`{found.code}`",
        retryable=_yes(found.retryable),
        prompt_at_fault=_yes(found.prompt_at_fault),
    )


def _yes(so: bool) -> str:
    return "yes" if so else "no"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[SimulatedProvider]:
    async with SimulatedProvider(SCENARIO).serving() as simulated:
        yield simulated
        await litellm.close_litellm_async_clients()  # type: ignore[attr-defined,no-untyped-call]  # lazily theirs


@pytest.fixture
def simulated(server: SimulatedProvider) -> SimulatedProvider:
    server.expect()
    server.play(SCENARIO)
    return server


async def failure(url: str, *, timeout_s: float = 5) -> ProviderError:
    provider = Provider(POLICY, local_model_url=url)
    with pytest.raises(ProviderError) as raised:
        await provider.complete(make.request(), LIGHT, LIGHT.lanes[0], timeout_s=timeout_s)
    return raised.value


@pytest.mark.parametrize("provider", FAULTS)
async def test_a_fault_is_what_the_table_says(simulated: SimulatedProvider, provider: str) -> None:
    fault = FAULTS[provider]
    simulated.order(fault)
    found = await failure(simulated.url, timeout_s=TIMEOUT_S if fault.kind in ("hang", "drip") else 5)
    assert seen(provider, found) == documented()[provider]
    assert found.retry_after_s == fault.retry_after_s
    assert len(simulated.calls) == 1


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = await failure(f"http://127.0.0.1:{port}/v1")
    assert seen("nobody listens", found) == documented()["nobody listens"]


async def test_no_connection_in_time() -> None:
    with full() as url:
        found = await failure(url, timeout_s=TIMEOUT_S)
    assert seen("no connection in time", found) == documented()["no connection in time"]


@contextmanager
def full() -> Iterator[str]:
    """The address of a server that accepts nobody, and whose queue is full: the kernel lets those who come wait."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


async def test_every_row_is_provoked_and_every_error_has_one() -> None:
    rows = documented()
    assert set(rows) == {*FAULTS, "nobody listens", "no connection in time"}
    assert {row.kind for row in rows.values()} == {kind.__name__ for kind in ProviderError.__subclasses__()}


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (400, "your prompt 'what is a rate limit?' is bad", ProviderRefused),
        (400, "Request timed out, says your prompt", ProviderRefused),
        (422, "no 429 in the prompt, please", ProviderRefused),
        (500, "Request timed out", ProviderFault),
        (503, "the rate limit service is down", ProviderFault),
        (500, "This model's maximum context length is unknown", ProviderFault),
        (429, "This model's maximum context length is 8 tokens", RateLimited),
        (413, "This model's maximum context length is 8 tokens", ContextWindowExceeded),
    ],
)
async def test_words_in_an_error_make_no_other_of_it(
    simulated: SimulatedProvider, status: int, words: str, kind: type[ProviderError]
) -> None:
    simulated.expect(error(status, words))
    assert type(await failure(simulated.url)) is kind


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("content_policy_violation", ContentFiltered),
        ("content_filter", ContentFiltered),
        ("context_length_exceeded", ContextWindowExceeded),
    ],
)
async def test_a_code_counts_whatever_the_words(
    simulated: SimulatedProvider, code: str, kind: type[ProviderError]
) -> None:
    simulated.expect(error(400, "no rate limit", code=code))
    assert type(await failure(simulated.url)) is kind


async def test_an_earlier_failure_says_nothing_about_a_later_one(simulated: SimulatedProvider) -> None:
    """A fallback is tried while the first failure is handled, and Python then hangs the one onto the other."""
    simulated.expect(error(401), raw("{"))
    provider = Provider(POLICY, local_model_url=simulated.url)

    async def complete() -> Completion:
        return await provider.complete(make.request(), LIGHT, LIGHT.lanes[0], timeout_s=5)

    async def fall_back() -> Completion:
        try:
            return await complete()
        except ProviderError:
            return await complete()

    with pytest.raises(ProviderFault):
        await fall_back()
    assert len(simulated.calls) == 2
