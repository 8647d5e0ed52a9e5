"""Which failed requests are run anew, and as what.

A request keeps its id. The number of its run goes up by one from that of the run that failed, so whoever asks for the
same replay twice begins the same run twice, and of one run only the first result counts.
"""

from dataclasses import dataclass
from datetime import datetime

from services.persistence.failures import Failure, NoFailure
from shared.errors import InvalidRequest
from shared.events import AUTO, Request
from shared.policy import Policy


@dataclass(frozen=True, slots=True)
class Terms:
    """How failed requests are to be run.

    Attributes:
        to: a tier or model of the policy, or ``auto``, in place of what the client asked for; None: as it asked.
        ignore_deadline: whether they are run without a deadline; else one whose deadline has passed is not.
    """

    to: str | None = None
    ignore_deadline: bool = False

    def check(self, policy: Policy) -> None:
        """Raise InvalidRequest where the policy has no such tier or model."""
        try:
            policy.tier_of(self.to or AUTO)
        except KeyError:
            known = ", ".join(policy.names)
            raise InvalidRequest(f"unknown model {self.to!r}; known: {known}", pointer="/to") from None


def replayed(failure: Failure, terms: Terms, now: datetime) -> Request | NoFailure:
    """The request as it is to be run now, or why it is not."""
    request = failure.request
    if failure.running:
        return NoFailure(request.id, "running", f"replay {request.replay} is on its way")
    too_late = request.deadline is not None and request.deadline <= now
    if too_late and not terms.ignore_deadline:
        return NoFailure(
            request.id,
            "deadline_passed",
            f"its deadline {request.deadline} has passed: ignore_deadline runs it all the same",
        )
    return request.model_copy(
        update={
            "replay": failure.result.replay + 1,
            "model": terms.to or request.model,
            "deadline": None if terms.ignore_deadline else request.deadline,
        }
    )
