"""Who scores a prompt."""

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from services.router.choice import Choice, choosing
from services.router.learning.candidate import Candidate
from services.router.learning.head import InvalidHead
from services.router.scoring import Scored
from shared.policy import Policy
from shared.service import Service
from tests.support import make
from tests.support.clock import ManualClock
from tests.unit.services.router.learning.conftest import trained

T = TypeVar("T")


class Process:
    """What of a service the choice asks for."""

    def __init__(self, policy: Policy, resources: AsyncExitStack) -> None:
        self.policy, self.clock, self._resources = policy, ManualClock(), resources

    async def enter(self, resource: AbstractAsyncContextManager[T]) -> T:
        return await self._resources.enter_async_context(resource)


async def chosen(resources: AsyncExitStack, **changes: Any) -> Choice:
    policy = make.policy(**changes)
    return await choosing(cast("Service", Process(policy, resources)), policy)


async def test_without_a_head_the_rules_score() -> None:
    async with AsyncExitStack() as resources:
        scored = (await chosen(resources)).score("step by step", None)
    assert (scored.by, scored.threshold) == ("rules", None)


async def test_with_a_head_it_scores_by_its_own_threshold(tmp_path: Path) -> None:
    made: Candidate = trained()
    made.head.save(tmp_path / "head.json")
    async with AsyncExitStack() as resources:
        choice = await chosen(resources, router__head={"file": str(tmp_path / "head.json")})
        scored = choice.score("step by step", None)
    assert (scored.by, scored.threshold) == (made.head.version, made.head.threshold)


async def test_a_missing_head_ends_the_start(tmp_path: Path) -> None:
    async with AsyncExitStack() as resources:
        with pytest.raises(InvalidHead, match="forebay router train"):
            await chosen(resources, router__head={"file": str(tmp_path / "head.json")})


def test_where_a_head_says_nothing_the_rules_are_asked() -> None:
    class Silent:
        def score(self, prompt: str, embedding: object) -> Scored | None:
            return None

    assert Choice(make.policy().router, Silent()).score("step by step", None).by == "rules"
