"""Simulated time: the clock's, made faster or slower."""

from shared.clock import Clock


class SimulatedTime:
    """Seconds since the scenario began; ``scale`` of them pass in one second of the clock.

    Everything in a scenario is in simulated seconds. What a client is told is in seconds of the clock, its own.
    """

    def __init__(self, clock: Clock, scale: float) -> None:
        self._clock = clock
        self._scale = scale
        self._since = clock.monotonic()
        self._before = 0.0

    @property
    def scale(self) -> float:
        """Simulated seconds in one of the clock's."""
        return self._scale

    def now_s(self) -> float:
        """Simulated seconds since the beginning."""
        return self._before + (self._clock.monotonic() - self._since) * self._scale

    async def sleep(self, simulated_s: float) -> None:
        """Return after so many simulated seconds, at the scale that holds now."""
        await self._clock.sleep(simulated_s / self._scale)

    def told_s(self, simulated_s: float) -> float:
        """Simulated seconds as the client's clock has them."""
        return simulated_s / self._scale

    def rescale(self, scale: float) -> None:
        """Let time go on from here at another speed."""
        self._before, self._since, self._scale = self.now_s(), self._clock.monotonic(), scale
