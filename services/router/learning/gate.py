"""Whether a head has earned the rules' place."""

from dataclasses import dataclass

from services.router.learning.evaluation import Array, Interval, difference


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says.

    Attributes:
        better: the head's APGR less the rules', on rows neither has seen.
    """

    better: Interval

    @property
    def passed(self) -> bool:
        """Whether the head is better even at the lower end of the interval."""
        return self.better.low > 0

    def __str__(self) -> str:
        said = f"APGR {self.better.value:+.3f} against the rules, 95 % interval [{self.better.low:+.3f}, "
        return f"{said}{self.better.high:+.3f}]: " + ("it has earned its place" if self.passed else "the rules stay")


def judge(head: Array, rules: Array, gains: Array) -> Verdict:
    """Compare scores of the same held-out rows."""
    return Verdict(difference(head, rules, gains))
