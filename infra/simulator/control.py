"""What steers a simulated provider, and tells what it saw."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.simulator.bodies import BadBody, decoded, parsed
from infra.simulator.counts import Counts, Seen, bought_twice, series
from infra.simulator.engine import Ordered, Simulator
from infra.simulator.scenario import InvalidScenario, Scenario, changed, parse_scenario


def routes(simulator: Simulator) -> list[Route]:
    """What there is under ``/control``."""
    control = _Control(simulator)
    return [
        Route("/state", control.state),
        Route("/scenario", control.playing, methods=["GET"]),
        Route("/scenario", control.play, methods=["PUT"]),
        Route("/scenario", control.change, methods=["PATCH"]),
        Route("/faults", control.order, methods=["POST"]),
        Route("/reset", control.reset, methods=["POST"]),
        Route("/counts", control.counts),
        Route("/prompts", control.prompts),
        Route("/request-ids", control.request_ids),
    ]


class _Control:
    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def state(self, _: Request) -> Response:
        """``GET /control/state``: the time, and by key the limits in force and how they stand."""
        simulator = self._simulator
        now_s = simulator.time.now_s()
        keys = {
            key: {
                "limits": limits.model_dump(mode="json", by_alias=True),
                "in_flight": lane.in_flight,
                "standing": [asdict(standing) for standing in lane.standing(now_s)],
            }
            for key, limits, lane in simulator.lanes()
        }
        return JSONResponse({"now_s": now_s, "time_scale": simulator.time.scale, "keys": keys})

    async def playing(self, _: Request) -> Response:
        """``GET /control/scenario``."""
        return _scenario(self._simulator.scenario)

    async def play(self, request: Request) -> Response:
        """``PUT /control/scenario``: begin another one; time, counts and what is used up start anew."""
        try:
            self._simulator.play(parse_scenario(decoded(await request.body())))
        except InvalidScenario as error:
            raise BadBody(str(error)) from None
        return _scenario(self._simulator.scenario)

    async def change(self, request: Request) -> Response:
        """``PATCH /control/scenario``: go on with other values of the keys that are named."""
        try:
            self._simulator.change(changed(self._simulator.scenario, decoded(await request.body())))
        except InvalidScenario as error:
            raise BadBody(str(error)) from None
        return _scenario(self._simulator.scenario)

    async def order(self, request: Request) -> Response:
        """``POST /control/faults``: let the next calls meet a fault."""
        fault = parsed(await request.body(), Ordered)
        self._simulator.order(fault)
        return JSONResponse(fault.model_dump(mode="json", by_alias=True), 201)

    async def reset(self, _: Request) -> Response:
        """``POST /control/reset``: the same scenario from its beginning."""
        self._simulator.play(self._simulator.scenario)
        return Response(status_code=204)

    async def counts(self, _: Request) -> Response:
        """``GET /control/counts``: what was seen, by key and over time."""
        return JSONResponse({"now_s": self._simulator.time.now_s(), **told(self._simulator.counts)})

    async def prompts(self, _: Request) -> Response:
        """``GET /control/prompts``: calls and useful answers of each prompt, by digest."""
        return JSONResponse(_seen(self._simulator.counts.prompts))

    async def request_ids(self, _: Request) -> Response:
        """``GET /control/request-ids``: the same of each request id that was sent."""
        return JSONResponse(_seen(self._simulator.counts.request_ids))


def told(counts: Counts) -> dict[str, Any]:
    """Counts as JSON has them."""
    return {
        "slice_s": counts.slice_s,
        "keys": {
            key: {
                "calls": tally.calls,
                "useful": tally.useful,
                "abandoned": tally.abandoned,
                "refused": tally.refused,
                "faults": tally.faults,
                "input_tokens": tally.input_tokens,
                "output_tokens": tally.output_tokens,
                "peak_per_s": tally.peak_per_s,
                "series": [{"at_s": at_s, **asdict(one)} for at_s, one in series(tally.slices, counts.slice_s)],
            }
            for key, tally in counts.keys.items()
        },
        "prompts": len(counts.prompts),
        "bought_twice": {"prompts": bought_twice(counts.prompts), "request_ids": bought_twice(counts.request_ids)},
    }


def _scenario(scenario: Scenario) -> Response:
    return JSONResponse(scenario.model_dump(mode="json", by_alias=True))


def _seen(seen: Mapping[str, Seen]) -> dict[str, Any]:
    return {name: asdict(one) for name, one in seen.items()}
