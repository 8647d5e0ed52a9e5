"""What can go wrong in a call to a provider.

::

    ProviderError
    ├── RateLimited           retryable: 429; may say when to come back
    ├── ProviderFault         retryable: 5xx, 409, or an answer that makes no sense or breaks off
    ├── ProviderUnreachable   retryable: no connection, or one that broke before the answer
    ├── ProviderTimeout       retryable: no answer in time
    ├── ProviderRefused       4xx: the call is wrong and will stay so, whoever asks
    ├── ProviderAuth          401, 402, 403: the key is wrong, or may not
    ├── ContextWindowExceeded the prompt is too long for the model, whoever asks
    └── ContentFiltered       the provider's policy forbids it, whoever asks
"""

from shared.errors import ForebayError


class ProviderError(ForebayError):
    """A call to a provider failed.

    Attributes:
        retry_after_s: seconds the provider asked us to wait, if it did.
    """

    code = "provider_error"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


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
    retryable = True


class ProviderTimeout(ProviderError):
    """No answer in time."""

    code = "provider_timeout"
    retryable = True


class ProviderRefused(ProviderError):
    """4xx: the call is wrong and will stay so."""

    code = "provider_refused"
    prompt_at_fault = True


class ProviderAuth(ProviderError):
    """401, 402, 403."""

    code = "provider_auth"


class ContextWindowExceeded(ProviderError):
    """The prompt is too long for the model."""

    code = "context_window_exceeded"
    prompt_at_fault = True


class ContentFiltered(ProviderError):
    """The provider's policy forbids it."""

    code = "content_filtered"
    prompt_at_fault = True


class DeadlineExceeded(ForebayError):
    """The request's deadline has passed."""

    code = "deadline_exceeded"
