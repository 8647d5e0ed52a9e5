"""A head that is replaced while the router runs."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from services.router.choice import Choice
from services.router.learning.head import Head, InvalidHead
from services.router.learning.reload import LOOK_S, WatchedHead
from services.router.scoring import Scored
from services.router.vectors import Embedding
from shared.background import background
from shared.policy.caching import EmbedderPolicy
from shared.policy.routing import HeadPolicy
from tests.support import make
from tests.support.clock import ManualClock
from tests.support.routers import Deciding
from tests.unit.services.router.learning.conftest import DIMENSIONS, EMBEDDER, Train

POLICY = make.policy()


def watched(file: Path, clock: ManualClock | None = None, threshold: float | None = None) -> WatchedHead:
    return WatchedHead(HeadPolicy(file=file, threshold=threshold), EmbedderPolicy(), clock or ManualClock())


def embedded(embedder: str = EMBEDDER) -> Embedding:
    return Embedding(np.eye(1, DIMENSIONS, dtype=np.float32)[0], embedder)


def deciding(head: WatchedHead) -> Deciding:
    return Deciding(POLICY, score=Choice(POLICY.router, head).score)


def written(head: Head, file: Path) -> None:
    """Replaces the file, so that also its inode differs."""
    head.save(file)


async def changes_noticed(clock: ManualClock, head: WatchedHead, version: str) -> None:
    """Let the watcher look, and its thread finish."""
    async with asyncio.timeout(5):
        while head.head.version != version:
            await clock.sleeper()
            await clock.advance(LOOK_S)
            await asyncio.to_thread(lambda: None)


async def test_a_new_file_is_taken_up(head_file: Path, train: Train) -> None:
    clock = ManualClock()
    head, other = watched(head_file, clock), train(seed=1).head
    before = head.head.version
    async with background(head.watch, name="head"):
        written(other, head_file)
        await changes_noticed(clock, head, other.version)
    assert head.head.version != before


async def test_a_broken_file_is_logged_once_and_the_old_head_stays(head_file: Path, train: Train) -> None:
    head, other = watched(head_file), train(seed=1).head
    before = head.head
    head_file.write_text("{")
    with capture_logs() as logged:
        for _ in range(3):
            await head.look()
            assert head.head is before
    assert [entry["event"] for entry in logged] == ["the new head can't be used; the old one stays"]
    head_file.unlink()
    await head.look()
    assert head.head is before
    written(other, head_file)
    await head.look()
    assert head.head.version == other.version


async def test_a_file_that_has_not_changed_is_not_read_again(head_file: Path) -> None:
    head = watched(head_file)
    before = head.head
    await head.look()
    assert head.head is before


def test_a_head_for_another_embedder_is_refused(tmp_path: Path, train: Train) -> None:
    train(embedder="openai/other/384").head.save(tmp_path / "head.json")
    with pytest.raises(InvalidHead, match="made for the embedder openai/other/384"):
        watched(tmp_path / "head.json")


def test_it_starts_with_a_whole_file_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(InvalidHead, match=r"head\.json"):
        watched(tmp_path / "head.json")


async def test_where_another_revision_of_the_embedder_was_at_work_the_rules_decide_and_the_log_says_why(
    head_file: Path, train: Train
) -> None:
    head = watched(head_file)
    it, newer = deciding(head), embedded("all-MiniLM-L6-v2/2.0")
    with capture_logs() as logged:
        routes = [it.route(make.request("stone 12"), each) for each in (newer, embedded(), None, newer)]
    own = head.head.version
    assert [route.scorer for route in routes] == ["rules", own, own, "rules"]
    (told,) = logged
    assert told["event"] == "the head is for another embedder than the cache's: the rules decide; train it anew"
    assert (told["trained_with"], told["embedder"]) == (EMBEDDER, "all-MiniLM-L6-v2/2.0")
    written(train(embedder="all-MiniLM-L6-v2/2.0").head, head_file)
    await head.look()
    assert it.route(make.request("stone 12"), newer).scorer == head.head.version


def score(head: WatchedHead, embedding: Embedding | None = None) -> Scored:
    scored = head.score("stone 12", embedding)
    assert scored is not None
    return scored


def test_without_an_embedding_the_rest_is_scored(head_file: Path) -> None:
    head = watched(head_file)
    told = [score(head, each) for each in (embedded(), None)]
    assert [any(reason.startswith("embedding") for reason in scored.fired) for scored in told] == [True, False]


@pytest.mark.parametrize(("threshold", "tier"), [(-5.0, "premium"), (5.0, "light")])
def test_the_policy_may_set_the_threshold(head_file: Path, threshold: float, tier: str) -> None:
    head = watched(head_file, threshold=threshold)
    route = deciding(head).route(make.request("stone 12"), embedded())
    assert route.tier == tier
    assert route.scorer == head.head.version
    assert route.reasons[0].startswith(head.head.version)
    assert route.reasons[-1].endswith(f"premium from {threshold:+g}")


def test_without_the_policy_saying_it_is_the_heads_own(head_file: Path) -> None:
    head = watched(head_file)
    assert score(head).threshold == head.head.threshold


def test_a_pinned_request_is_not_scored(head_file: Path) -> None:
    route = deciding(watched(head_file)).route(make.request("stone 12", model="premium"))
    assert route.score is None
