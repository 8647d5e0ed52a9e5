"""What a simulated provider does with a call: it meets a fault, is refused, or gets an answer."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from pydantic import PositiveInt

from infra.simulator import headers, openai
from infra.simulator import reply as replies
from infra.simulator.counts import Counted, Counts
from infra.simulator.drawing import Draws, latency_s
from infra.simulator.lane import Lane
from infra.simulator.openai import ChatBody, EmbeddingsBody
from infra.simulator.reply import Reply
from infra.simulator.scenario import OF_THE_ANSWER, Fault, Limits, Scenario
from infra.simulator.schedule import limits_at, windows_at
from infra.simulator.timescale import SimulatedTime
from shared.clock import SYSTEM_CLOCK, Clock

# What a call without a bearer token is counted as.
ANONYMOUS: Final = "anonymous"


class Ordered(Fault):
    """A fault for the next calls, before any window.

    Attributes:
        times: how many calls meet it.
    """

    times: PositiveInt = 1


@dataclass(frozen=True, slots=True)
class Ongoing:
    """A call that was decided about and has not ended.

    Attributes:
        useful: whether its reply, when it arrives whole, is an answer.
        tokens: of the prompt and of the answer.
        lane: what is to be released at its end; None when it was not taken in.
    """

    reply: Reply
    counted: Counted
    useful: bool = False
    tokens: tuple[int, int] = (0, 0)
    lane: Lane | None = None


class Simulator:
    """A simulated provider, without its HTTP.

    Attributes:
        scenario: what is being played.
        time: seconds since it began.
        counts: what was seen since then.
    """

    def __init__(self, scenario: Scenario, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self.play(scenario)

    def play(self, scenario: Scenario) -> None:
        """Begin a scenario, with nothing counted and nothing used up."""
        self.scenario = scenario
        self.time = SimulatedTime(self._clock, scenario.time_scale)
        self.counts = Counts(scenario.slice_s)
        self._lanes: dict[str, Lane] = {}
        self._numbers: Counter[str] = Counter()
        self._ordered: list[Ordered] = []

    def change(self, scenario: Scenario) -> None:
        """Go on by another scenario: time, counts and what is used up stay.

        What calls are counted by stays too, until the next beginning.
        """
        self.scenario = scenario
        self.time.rescale(scenario.time_scale)

    def order(self, fault: Ordered) -> None:
        """Let the next calls meet a fault; what was ordered first comes first."""
        self._ordered.append(fault)

    def lanes(self) -> Iterator[tuple[str, Limits, Lane]]:
        """The keys that have called, each with its limits at this time and how they stand."""
        now_s = self.time.now_s()
        for key in self._lanes:
            yield key, limits_at(self.scenario.limits, key, now_s), self._lane(key, now_s)

    def begin(self, body: ChatBody | EmbeddingsBody, *, key: str = ANONYMOUS, request_id: str | None = None) -> Ongoing:
        """Decide about a call; whoever asks calls :meth:`end` when it is over."""
        now_s = self.time.now_s()
        self._numbers[key] += 1
        draws = Draws(self.scenario.seed, key, self._numbers[key])
        lane = self._lane(key, now_s)
        counted = self.counts.began(key, now_s, lane.requests_per_s, openai.digest(body), request_id)
        fault = self._next_ordered(key) or self._scheduled(draws, now_s)
        if fault is not None and fault.kind == "content_filter" and isinstance(body, EmbeddingsBody):
            fault = None  # vectors have no finish reason
        ongoing = self._decide(body, fault, lane, counted, draws, now_s)
        if not self.scenario.headers.ratelimit:
            return ongoing
        told = headers.ratelimit(lane.standing(now_s), self.scenario.time_scale)
        return replace(ongoing, reply=replace(ongoing.reply, headers={**told, **ongoing.reply.headers}))

    def end(self, ongoing: Ongoing, *, delivered: bool) -> None:
        """A call is over: its reply arrived, or its client left before."""
        if ongoing.lane is not None:
            ongoing.lane.release()
        if delivered and ongoing.useful:
            ongoing.counted.useful(*ongoing.tokens)
        elif not delivered and ongoing.reply.course == "whole":
            ongoing.counted.abandoned()

    def _decide(
        self,
        body: ChatBody | EmbeddingsBody,
        fault: Fault | None,
        lane: Lane,
        counted: Counted,
        draws: Draws,
        now_s: float,
    ) -> Ongoing:
        scale, tell_when = self.scenario.time_scale, self.scenario.headers.retry_after
        if fault is not None and fault.kind not in OF_THE_ANSWER:
            counted.faulted(str(fault.status or fault.kind))
            return Ongoing(replies.failed(fault, scale, tell_when=tell_when), counted)
        refusal = lane.admit(self._charged(body), now_s)
        if refusal is not None:
            counted.refused(refusal.over)
            return Ongoing(replies.refused(refusal, scale, tell_when=tell_when), counted)
        wait_s = latency_s(self.scenario.latency, draws.uniform("latency"))
        reply, tokens = self._answer(body, fault, wait_s)
        if fault is not None:
            counted.faulted(fault.kind)
            reply = replies.spoiled(reply, fault.kind, self.scenario.answer.drip_s)
        useful = fault is None or fault.kind == "drip"
        return Ongoing(reply, counted, useful, tokens, lane)

    def _answer(
        self, body: ChatBody | EmbeddingsBody, fault: Fault | None, wait_s: float
    ) -> tuple[Reply, tuple[int, int]]:
        usual = self.scenario.answer
        kind = None if fault is None else fault.kind
        if isinstance(body, EmbeddingsBody):
            vectors = openai.embeddings(body, usual.dimensions)
            if kind == "empty_choices":
                vectors["data"] = []
            return replies.of_json(vectors, wait_s=wait_s), (openai.input_tokens(body), 0)
        done = openai.completed(body, usual.tokens)
        tokens = (done.input_tokens, done.output_tokens)
        if kind == "empty_choices":
            return replies.of_json({**openai.completion(done), "choices": []}, wait_s=wait_s), tokens
        if kind == "content_filter":
            done = replace(done, finish_reason="content_filter")
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        return replies.answered(done, stream=bool(body.stream), usage=with_usage, latency_s=wait_s), tokens

    def _charged(self, body: ChatBody | EmbeddingsBody) -> int:
        """Tokens a call counts as before it is answered: those of the prompt, and all the answer may have."""
        prompt = openai.input_tokens(body)
        if isinstance(body, EmbeddingsBody):
            return prompt
        return prompt + (body.most_tokens or self.scenario.answer.tokens)

    def _lane(self, key: str, now_s: float) -> Lane:
        limits = limits_at(self.scenario.limits, key, now_s)
        if key not in self._lanes:
            self._lanes[key] = Lane(limits, now_s)
        self._lanes[key].adapt(limits, now_s)
        return self._lanes[key]

    def _next_ordered(self, key: str) -> Fault | None:
        for place, fault in enumerate(self._ordered):
            if fault.key in (None, key):
                left = [fault.model_copy(update={"times": fault.times - 1})] if fault.times > 1 else []
                self._ordered[place : place + 1] = left
                return fault
        return None

    def _scheduled(self, draws: Draws, now_s: float) -> Fault | None:
        for place, window in windows_at(self.scenario.faults, draws.key, now_s):
            if draws.uniform(f"fault {place}") < window.probability:
                return window
        return None
