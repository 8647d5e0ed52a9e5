"""Which failures of a provider may pass."""

import pytest

from services.inference import errors
from services.inference.errors import ProviderError


@pytest.mark.parametrize(
    ("kind", "retryable"),
    [
        (errors.RateLimited, True),
        (errors.ProviderFault, True),
        (errors.ProviderUnreachable, True),
        (errors.ProviderTimeout, True),
        (errors.ProviderRefused, False),
        (errors.ProviderAuth, False),
        (errors.ContextWindowExceeded, False),
        (errors.ContentFiltered, False),
    ],
)
def test_what_may_pass_is_worth_another_try(kind: type[ProviderError], retryable: bool) -> None:
    assert kind.retryable is retryable


def test_some_failures_are_the_prompts_own_fault_and_those_of_the_provider_are_not() -> None:
    at_fault = {kind for kind in ProviderError.__subclasses__() if kind.prompt_at_fault}
    assert at_fault == {errors.ProviderRefused, errors.ContextWindowExceeded, errors.ContentFiltered}


def test_an_error_knows_when_to_come_back_if_it_was_told() -> None:
    assert ProviderError("x").retry_after_s is None
    assert ProviderError("x", retry_after_s=2.0).retry_after_s == 2.0


def test_the_deadline_is_not_worth_another_try() -> None:
    assert not errors.DeadlineExceeded.retryable
