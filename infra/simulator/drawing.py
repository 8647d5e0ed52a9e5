"""Chance that repeats itself: drawn from the seed, the key and the running number of the call, nothing else.

A generator shared by all calls would give a call something else whenever another came first.
"""

import hashlib
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, assert_never

from infra.simulator.scenario import Constant, Lognormal, Uniform

_BYTES: Final = 6  # exact in a float
_STANDARD: Final = NormalDist()
# The shares of the uncut distribution below its lower and its upper bound.
_BELOW, _ABOVE = 0.025, 0.975
_SIGMAS: Final = _STANDARD.inv_cdf(_ABOVE)


@dataclass(frozen=True, slots=True)
class Draws:
    """What chance has in store for one call.

    Attributes:
        key: of the caller.
        number: of the call among those of its key.
    """

    seed: int
    key: str
    number: int

    def uniform(self, purpose: str) -> float:
        """A number from 0 up to but not including 1, a different one for each purpose."""
        text = "\0".join((str(self.seed), self.key, str(self.number), purpose))
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_BYTES).digest()
        return int.from_bytes(digest, "big") / 2.0 ** (8 * _BYTES)


def latency_s(latency: Constant | Uniform | Lognormal, uniform: float) -> float:
    """Simulated seconds an answer takes, where ``uniform`` is from 0 up to 1."""
    match latency:
        case Constant():
            return latency.value
        case Uniform():
            return latency.low + (latency.high - latency.low) * uniform
        case Lognormal():
            middle = math.log(latency.low * latency.high) / 2
            sigma = math.log(latency.high / latency.low) / (2 * _SIGMAS)
            drawn = math.exp(middle + sigma * _STANDARD.inv_cdf(_BELOW + (_ABOVE - _BELOW) * uniform))
            return min(latency.high, max(latency.low, drawn))
        case _:
            assert_never(latency)
