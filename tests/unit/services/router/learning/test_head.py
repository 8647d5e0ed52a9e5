"""The head's score and its file."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.router.learning import candidate, head
from services.router.learning.head import Head, InvalidHead
from services.router.learning.rows import InvalidRows, digest, part
from services.router.scoring import Rules
from tests.support import make
from tests.unit.services.router.learning.conftest import DIMENSIONS, EMBEDDER, Train, made_up, unit_vectors


def changed(file: Path, **changes: Any) -> Path:
    """The file with keys changed, by dotted path with double underscores; None takes a key out."""
    data = json.loads(file.read_text())
    for path, value in changes.items():
        *tables, key = path.split("__")
        table = data
        for name in tables:
            table = table[name]
        table[key] = value
    file.write_text(json.dumps(data))
    return file


def test_it_learns_what_the_labels_say(train: Train) -> None:
    made = train()
    assert made.measured.verdict is not None
    assert made.measured.verdict.passed
    assert made.measured.worth["head"].apgr.value > 0.65
    vector = unit_vectors(1)[0]
    with_digits, without = (made.head.score(f"stone garden {word} market", vector) for word in ("4821", "only"))
    assert with_digits.value > without.value


def test_where_labels_say_nothing_the_rules_stay(train: Train) -> None:
    verdict = train(told=0.5).measured.verdict
    assert verdict is not None
    assert not verdict.passed
    assert "the rules stay" in str(verdict)


@pytest.mark.parametrize("embedded", [True, False])
def test_the_reasons_add_up_to_the_score(train: Train, embedded: bool) -> None:
    head = train().head
    scored = head.score("stone garden 4821 market, and 17?", unit_vectors(1)[0] if embedded else None)
    average, *pushes = scored.fired
    assert average.startswith(f"{head.version}: average gain ")
    told = [float(reason.rsplit(" ", 1)[1]) for reason in (average, *pushes)]
    assert sum(told) == pytest.approx(scored.value, abs=0.0005 * len(told))
    assert sorted(map(abs, told[1:]), reverse=True) == list(map(abs, told[1:]))
    assert any(reason.startswith("embedding ") for reason in pushes) is embedded
    assert (scored.informed, scored.by) == (True, head.version)


def test_one_prompt_scores_as_it_does_among_many(train: Train) -> None:
    rows, head = made_up(20, seed=5), train().head
    vectors = unit_vectors(20)
    together = candidate.scores_of(head, rows, vectors)
    alone = [head.score(row.prompt, vector).value for row, vector in zip(rows, vectors, strict=True)]
    assert together == pytest.approx(alone, abs=1e-5)


def test_a_prompt_unlike_all_others_gets_no_extreme_score(train: Train) -> None:
    head = train().head
    for strange in ("9" * 100_000, "?" * 5000, "\n" * 3000, "prove " * 50_000):
        assert -1 <= head.score(strange, None).value <= 1


@pytest.mark.parametrize(("bias", "bound"), [(5.0, 1.0), (-5.0, -1.0)])
def test_a_gain_is_held_within_what_one_can_be_also_where_a_head_is_measured(
    train: Train, bias: float, bound: float
) -> None:
    made = train().head
    curves = made.weights.curves.model_copy(update={"bias": bias})
    far = made.model_copy(update={"weights": made.weights.model_copy(update={"curves": curves})})
    rows, vectors = made_up(20, seed=5), unit_vectors(20)
    assert set(candidate.scores_of(far, rows, vectors)) == {bound}
    scored = far.score(rows[0].prompt, vectors[0])
    assert (scored.value, scored.fired[-1]) == (bound, f"no gain is beyond {bound:+.0f}")


def test_the_file_is_small_and_gives_the_same_scores(head_file: Path, train: Train) -> None:
    made, kept = train().head, Head.load(head_file)
    assert head_file.stat().st_size < 2**20
    assert kept.version == made.version
    assert kept.record == made.record
    vector = unit_vectors(1)[0]
    assert kept.score("a 12", vector) == made.score("a 12", vector)
    assert [path.name for path in head_file.parent.iterdir()] == [head_file.name]


def test_it_records_where_it_comes_from(train: Train) -> None:
    head, rows = train().head, made_up(400)
    record = head.record
    assert (head.embedder, head.dimensions, head.features) == (EMBEDDER, DIMENSIONS, "lexical-1")
    assert record.digest == digest(rows)
    assert record.rows + record.held_out_rows == 400
    assert record.sources == {"digits": 200, "words": 200}
    assert set(record.metrics) == {"head", "rules", "random"}


def test_its_threshold_sends_the_share_asked_for_up() -> None:
    rows = made_up(400)
    made = candidate.train(
        rows,
        unit_vectors(400),
        Rules(make.policy().router),
        embedder=EMBEDDER,
        now=datetime(2026, 1, 2, tzinfo=UTC),
        share=0.4,
    )
    seen = np.array([row.prompt for row in rows])
    assert len(seen) == 400
    scores = candidate.scores_of(made.head, rows, unit_vectors(400))
    assert (scores >= made.head.threshold).mean() == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize("count", [20, 120])
def test_too_few_rows_are_refused_with_how_many_are_needed(train: Train, count: int) -> None:
    with pytest.raises(InvalidRows, match="at least 50"):
        train(count)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"features": "lexical-0"}, "features: trained on 'lexical-0', and this router has 'lexical-1'"),
        ({"format": "other"}, "format"),
        ({"weights__limit": "AAAA"}, "weights.limit"),
        ({"weights__pull": "!"}, "weights.pull: must be numbers in base64"),
        ({"weights__landmarks": ""}, "weights.landmarks: 0 numbers"),
        ({"weights__pull": "AADAfw=="}, "must be finite"),
        ({"threshold": "high"}, "threshold"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_with_the_reason(
    head_file: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidHead) as error:
        Head.load(changed(head_file, **changes))
    assert said in str(error.value)
    assert str(head_file) in str(error.value)


def test_a_missing_file_and_what_is_no_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidHead, match="forebay router train"):
        Head.load(tmp_path / "head.json")
    (tmp_path / "head.json").write_text("{")
    with pytest.raises(InvalidHead, match="Invalid JSON"):
        Head.load(tmp_path / "head.json")


def test_it_knows_the_prompts_it_was_trained_on(head_file: Path) -> None:
    kept, trained = Head.load(head_file), made_up(400)
    assert all(kept.never_saw(row.prompt) is (part(row.prompt) < 0.3) for row in trained)
    assert all(kept.never_saw(row.prompt) for row in made_up(400, seed=7))


def test_of_too_many_prompts_it_knows_only_which_it_was_surely_not_trained_on(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "MOST_SEEN", 100)
    made = train().head
    assert made.seen.size == 0
    for row in made_up(400) + made_up(400, seed=7):
        assert made.never_saw(row.prompt) is (part(row.prompt) < 0.3)
