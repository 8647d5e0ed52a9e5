"""What can go wrong in a call to a provider.

::

    ProviderError
    ├── RateLimited           retryable: 429; may say when to come back
    ├── ProviderFault         retryable: 5xx, 409, or an answer that makes no sense or breaks off
    ├── ProviderUnreachable   retryable: no connection, or one that broke before the answer
    ├── ProviderTimeout       retryable: no answer in time
    ├── ProviderRefused       4xx: the call is wrong and will stay so, whoever asks
    ├── ProviderAuth          401, 402, 403: the key is wrong, or may not, or has no money left
    ├── ProviderMissing       404: the provider has no such model, or not for this key
    ├── ContextWindowExceeded the prompt is too long for the model, whoever asks
    └── ContentFiltered       the provider's policy forbids it, whoever asks
"""

from typing import ClassVar, Final

from services.inference.lanes.said import Said
from shared.errors import ForebayError
from shared.events import Attempt

# Service unavailable, and what Anthropic says when it is overloaded.
OVERLOADED: Final = frozenset({503, 529})


class ProviderError(ForebayError):
    """A call to a provider failed.

    Attributes:
        lane_at_fault: whether the same call may work on another lane.
        TOLD: what clients are told, where the provider's own words may hold a key or an address inside; None for these.
        retry_after_s: seconds the provider asked us to wait, if it did.
        status: of the provider's answer, if there was one.
        said: what that answer says of the provider's limits.
    """

    code = "provider_error"
    lane_at_fault: ClassVar[bool] = True
    TOLD: ClassVar[str | None] = None

    def __init__(self, message: str, *, retry_after_s: float | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.status = status
        self.said: Said | None = None

    @property
    def told(self) -> str:
        """What clients are told; the rest is in the log."""
        return self.TOLD or str(self)

    @property
    def overload(self) -> bool:
        """Whether the server has too much to do."""
        return self.status in OVERLOADED


class RateLimited(ProviderError):
    """429."""

    code = "rate_limited"
    retryable = True


class ProviderFault(ProviderError):
    """5xx, 409 (a lock or a conflict at the provider's: it passes), or an answer that makes no sense or breaks off."""

    code = "provider_fault"
    retryable = True


class ProviderUnreachable(ProviderError):
    """No connection, or one that broke before the answer."""

    code = "provider_unreachable"
    TOLD = "the provider can't be reached"
    retryable = True


class ProviderTimeout(ProviderError):
    """No answer in time."""

    code = "provider_timeout"
    retryable = True

    @property
    def overload(self) -> bool:
        """Who is late has too much to do, or is gone."""
        return True


class ProviderRefused(ProviderError):
    """4xx: the call is wrong and will stay so."""

    code = "provider_refused"
    prompt_at_fault = True
    lane_at_fault = False


class ProviderAuth(ProviderError):
    """401, 402, 403."""

    code = "provider_auth"
    TOLD = "the provider does not accept the key, or there is no money left behind it"


class ProviderMissing(ProviderError):
    """404: no such model, or not for this key."""

    code = "provider_missing"
    TOLD = "the provider has no such model, or not for this key"


class ContextWindowExceeded(ProviderError):
    """The prompt is too long for the model."""

    code = "context_window_exceeded"
    prompt_at_fault = True
    lane_at_fault = False


class ContentFiltered(ProviderError):
    """The provider's policy forbids it."""

    code = "content_filtered"
    prompt_at_fault = True
    lane_at_fault = False


class DeadlineExceeded(ForebayError):
    """The request's deadline has passed."""

    code = "deadline_exceeded"


class GaveUp(ForebayError):
    """The time for attempts was over when the request's turn came again; ``code`` is that of the last failure."""

    code = "gave_up"

    def __init__(self, last: Attempt, seconds: float) -> None:
        super().__init__(f"no further attempt after {seconds:g} s; the last one: {last.message}")
        self.code = last.code  # type: ignore[misc]  # of a class elsewhere


class Cancelled(ForebayError):
    """The request's client needs it no more."""

    code = "cancelled"
