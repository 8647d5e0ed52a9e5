"""What a simulated provider is like: limits, latencies and faults over time, read from TOML and validated as a whole.

All times are simulated seconds since the scenario began, or text such as ``"2m"``.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from shared.errors import ForebayError
from shared.faults import told
from shared.policy.section import Section, Share, seconds

SHIPPED: Final = Path(__file__).parent / "scenarios"

Seconds = Annotated[float, Field(ge=0, le=1e9), BeforeValidator(seconds)]
PositiveSeconds = Annotated[float, Field(ge=0.001, le=1e9), BeforeValidator(seconds)]
# Bounds beyond which arithmetic, not a provider, would be simulated.
Rate = Annotated[float, Field(ge=0.001, le=1e9)]
Status = Annotated[int, Field(ge=400, le=599)]
FaultKind = Literal[
    "status",
    "reset",
    "hang",
    "content_refused",
    "context_window",
    "drip",
    "cut",
    "malformed",
    "empty_choices",
    "content_filter",
]
# These spoil an answer that was paid for. The others stand before the limits: who meets one is not charged.
OF_THE_ANSWER: Final[frozenset[FaultKind]] = frozenset({"drip", "cut", "malformed", "empty_choices", "content_filter"})


class InvalidScenario(ForebayError):
    """A scenario that can't be played; the message names each key that is wrong."""

    code = "invalid_scenario"


class Table(Section):
    """A table of the file; keys that are words of Python have another name in it."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)


class Constant(Table):
    """Always the same."""

    kind: Literal["constant"] = "constant"
    value: Seconds = 0.0


class Uniform(Table):
    """Anything between two bounds is equally likely."""

    kind: Literal["uniform"]
    low: Seconds
    high: Seconds

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.high < self.low:
            raise ValueError(f"high: {self.high:g} is less than low, {self.low:g}")
        return self


class Lognormal(Table):
    """Most are short, a few long: a lognormal distribution cut off at two bounds.

    Its median is the geometric mean of the bounds, and 95 % of the uncut distribution lie between them; 3 and 30 s,
    say, make a median of 9.5 s and a sigma of the logarithm of 0.59.
    """

    kind: Literal["lognormal"]
    low: PositiveSeconds = 3.0
    high: PositiveSeconds = 30.0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.high <= self.low:
            raise ValueError(f"high: {self.high:g} is not more than low, {self.low:g}")
        return self


class Limits(Table):
    """What a key may do from some time on.

    Attributes:
        from_s: since when; the latest entry that has begun counts, and one for the key before one for all.
        key: the API key it is for; None for all.
        burst_s: how many seconds' worth can be saved up and used at once; one call always can. A call with more tokens
            than can be saved up is never taken.
        concurrency: calls at the same time.
    """

    from_s: Seconds = Field(0.0, alias="from")
    key: str | None = None
    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None
    burst_s: Seconds = Field(60.0, alias="burst")
    concurrency: PositiveInt | None = None


class Fault(Table):
    """One way to fail.

    Attributes:
        kind: ``status`` answers with an error; ``reset`` breaks the connection and ``hang`` never answers;
            ``content_refused`` and ``context_window`` are OpenAI's errors about a prompt; ``drip`` sends the answer
            byte by byte, ``cut`` breaks the connection in the middle of it; ``malformed`` is no JSON,
            ``empty_choices`` an answer with nothing in it, ``content_filter`` one that a filter stopped.
        status: of ``status``.
        retry_after_s: what ``status`` tells about when to come back; None for nothing.
        key: the API key it is for; None for all.
    """

    kind: FaultKind
    status: Status | None = None
    retry_after_s: Seconds | None = Field(None, alias="retry_after")
    key: str | None = None

    @model_validator(mode="after")
    def _status_where_it_belongs(self) -> Self:
        if (self.kind == "status") != (self.status is not None):
            raise ValueError('status: write one, such as 503, with kind = "status", and none with any other kind')
        if self.retry_after_s is not None and self.status is None:
            raise ValueError('retry_after: only an error with kind = "status" can say when to come back')
        return self


class Window(Fault):
    """A fault for some time.

    Attributes:
        to_s: until when; None for ever.
        probability: that a call in the window meets it.
    """

    from_s: Seconds = Field(0.0, alias="from")
    to_s: Seconds | None = Field(None, alias="to")
    probability: Share = 1.0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.to_s is not None and self.to_s <= self.from_s:
            raise ValueError(f"to: {self.to_s:g} is not after from, {self.from_s:g}")
        return self


class Told(Table):
    """What headers say: with less of it, clients must learn the limits blindly."""

    ratelimit: bool = True
    retry_after: bool = True


class Answer(Table):
    """What answers are like.

    Attributes:
        tokens: of an answer, where the request wants no fewer.
        dimensions: of a vector, where the request asks for no others.
        drip_s: between two bytes of an answer that drips.
    """

    tokens: PositiveInt = 20
    dimensions: PositiveInt = 8
    drip_s: PositiveSeconds = Field(1.0, alias="drip")


class Scenario(Table):
    """The whole file.

    Attributes:
        seed: another one draws other latencies and faults; the same one draws the same.
        time_scale: simulated seconds in a second of the clock; limits per minute are per simulated minute.
        slice_s: what calls are counted by, for a plot over time.
        models: what ``GET /v1/models`` lists; any name is answered.
    """

    seed: int = 1
    time_scale: Annotated[float, Field(ge=0.001, le=1e6)] = 1.0
    slice_s: PositiveSeconds = Field(1.0, alias="slice")
    models: tuple[str, ...] = ("simulated",)
    latency: Annotated[Constant | Uniform | Lognormal, Field(discriminator="kind")] = Constant()
    limits: tuple[Limits, ...] = ()
    faults: tuple[Window, ...] = ()
    headers: Told = Told()
    answer: Answer = Answer()


def load_scenario(name: str) -> Scenario:
    """A scenario that ships, by name, or one from a file.

    Raises:
        InvalidScenario: no such scenario or file, no TOML, or wrong keys; the message names each.
    """
    path = SHIPPED / f"{name}.toml"
    if not path.is_file():
        path = Path(name)
    try:
        return parse_scenario(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InvalidScenario(f"{name}: no such file, and none of those that ship: {', '.join(shipped())}") from None
    except OSError as error:
        raise InvalidScenario(f"{name}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, InvalidScenario) as error:
        raise InvalidScenario(f"{path}: {error}") from None


def parse_scenario(data: Any) -> Scenario:
    """Validate a scenario that was read already; raises InvalidScenario naming the keys that are wrong."""
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        raise InvalidScenario(told(error)) from None


def changed(scenario: Scenario, changes: Any) -> Scenario:
    """A scenario in which some keys of the top have other values; raises InvalidScenario."""
    if not isinstance(changes, dict):
        raise InvalidScenario('write an object with the keys that change, such as {"time_scale": 2}')
    return parse_scenario(scenario.model_dump(mode="json", by_alias=True) | changes)


def shipped() -> list[str]:
    """Names of the scenarios that ship."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))
