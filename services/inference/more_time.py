"""In a brownout, requests whose deadline passes while they wait are answered all the same, for a while."""

from collections.abc import Sequence
from datetime import datetime

from shared.brownout import Brownout
from shared.events import BrownoutNote, RequestRouted
from shared.policy.brownout import BrownoutPolicy
from shared.telemetry import metrics


class MoreTime:
    """Gives requests more time than their deadlines leave."""

    def __init__(self, policy: BrownoutPolicy, brownout: Brownout) -> None:
        self._by_s = policy.longer_deadline.by if policy.longer_deadline else 0
        self._brownout = brownout

    def given(self, event: RequestRouted) -> RequestRouted:
        """The request with its more time, if it gets any: once, and never where its client wants the deadline kept."""
        request = event.request
        if request.deadline is None or request.firm_deadline or event.more_time_s:
            return event
        note = self._brownout.note("longer_deadline", event.route.tier, f"up to {self._by_s} s after its deadline")
        if note is None:
            return event
        return event.model_copy(update={"more_time_s": self._by_s, "brownout": (*event.brownout, note)})


def touching(event: RequestRouted, now: datetime) -> Sequence[BrownoutNote]:
    """The notes for a result of now: more time that was not needed did not touch it."""
    if event.request.seconds_left(now) >= 0:
        return tuple(note for note in event.brownout if note.step != "longer_deadline")
    if event.more_time_s:
        metrics.BROWNOUTS.labels("longer_deadline", event.route.tier).inc()
    return event.brownout
