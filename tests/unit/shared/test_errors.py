"""The tree of errors."""

import re

from services.inference import errors as inference
from shared import errors
from shared.errors import ForebayError


def descendants(kind: type[ForebayError]) -> set[type[ForebayError]]:
    return {kind} | {one for child in kind.__subclasses__() for one in descendants(child)}


def drawn(docstring: str | None) -> dict[str, str]:
    """Each class of a drawn tree and the class it hangs from."""
    tree: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in (docstring or "").splitlines():
        if match := re.match(r"^( +[│├└─ ]*)([A-Z]\w+)(?: |$)", line):
            depth, name = len(match[1]), match[2]
            above = [entry for entry in above if entry[0] < depth]
            tree[name] = above[-1][1] if above else ""
            above.append((depth, name))
    return tree


def test_the_docstring_draws_every_error_below_its_base() -> None:
    ours = {kind for kind in descendants(ForebayError) if kind.__module__ == errors.__name__}
    tree = drawn(errors.__doc__)
    assert {kind.__name__ for kind in ours} <= set(tree)
    for kind in ours - {ForebayError}:
        assert tree[kind.__name__] == kind.__bases__[0].__name__


def test_the_docstring_draws_nothing_that_does_not_exist() -> None:
    known = {name for module in (errors, inference) for name in vars(module)}
    assert set(drawn(errors.__doc__)) <= known
    assert set(drawn(inference.__doc__)) <= known


def test_the_provider_errors_are_drawn_too() -> None:
    tree = drawn(inference.__doc__)
    assert {kind.__name__ for kind in descendants(inference.ProviderError)} == set(tree)


def test_codes_are_words_of_a_routing_key_and_each_class_has_its_own() -> None:
    kinds = [kind for kind in descendants(ForebayError) if kind.__module__ in (errors.__name__, inference.__name__)]
    codes = [kind.code for kind in kinds]
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", code) for code in codes)
    assert len(set(codes)) == len(codes)


def test_only_what_may_pass_is_retryable() -> None:
    retryable = {kind.__name__ for kind in descendants(errors.BrokerError) | {errors.InvalidRequest} if kind.retryable}
    assert retryable == {"BrokerUnavailable", "PublishRefused"}
