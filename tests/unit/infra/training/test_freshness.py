"""What the corpora's labels say, and that a classifier is made of them."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.training.freshness import CERTAIN, HOURS, PERIODS, everyday, labelled, prepare, targets, taught, train
from services.router.freshness.features import names
from services.router.freshness.reading import Reader
from shared.embedding.builtin import DIMENSIONS
from shared.policy.freshness import HORIZONS


def told(**row: Any) -> dict[str, float]:
    """What a row says, without what it does not say."""
    said = dict(zip(HORIZONS, targets(row), strict=True))
    return {horizon: target for horizon, target in said.items() if not np.isnan(target)}


def test_freshqa_says_whether_within_a_year() -> None:
    assert told(source="freshqa", label="fast-changing") == {"1y": 1, "3y": 1, "ever": 1}
    assert told(source="freshqa", label="slow-changing") == {"1d": 0, "7d": 0, "30d": 0, "90d": 0, "1y": 0, "ever": 1}
    assert told(source="freshqa", label="never-changing") == dict.fromkeys(HORIZONS, 0)


def test_evergreenqa_says_whether_ever() -> None:
    assert told(source="evergreenqa_test", label="mutable") == {"ever": 1}
    assert told(source="evergreenqa_test", label="evergreen") == dict.fromkeys(HORIZONS, 0)


@given(st.sampled_from(PERIODS), st.floats(0.05, 1))
def test_recencyqa_says_how_soon_and_is_taught_less_certainly(hours: float, confidence: float) -> None:
    row = {"source": "recencyqa_patqa", "hours": hours, "confidence": confidence}
    said, learned = targets(row), taught(row)
    assert said == tuple(float(hours <= HOURS[horizon]) for horizon in HORIZONS)
    assert list(learned) == sorted(learned)
    assert all(-1e-9 <= target <= 1 + 1e-9 for target in learned)
    if confidence == 1:
        assert all(abs(one - other) <= 1 - CERTAIN + 1e-9 for one, other in zip(said, learned, strict=True))


def test_those_who_labelled_and_were_less_sure_teach_less() -> None:
    sure, unsure = (
        dict(zip(HORIZONS, taught({"source": "recencyqa", "hours": 168, "confidence": share}), strict=True))
        for share in (1.0, 0.5)
    )
    assert sure["7d"] > unsure["7d"] > 0.5
    assert sure["1d"] < unsure["1d"] < 0.5


def test_other_corpora_are_taught_as_they_are_labelled() -> None:
    row = {"source": "freshqa", "label": "never-changing"}
    assert taught(row) == targets(row)


def test_rows_are_read_from_the_folder_of_the_data(tmp_path: Path) -> None:
    row = {"prompt": "Who won?", "source": "evergreenqa_dev", "label": "mutable"}
    (tmp_path / "freshness").mkdir()
    with gzip.open(tmp_path / "freshness" / "freshness.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    (example,) = labelled(tmp_path)
    assert (example.prompt, example.corpus) == ("Who won?", "evergreenqa")
    assert example.targets == pytest.approx(targets(row), nan_ok=True)


def test_everyday_prompts_know_all_horizons() -> None:
    for example in everyday():
        assert set(example.targets) <= {0, 1}, example.prompt
        assert list(example.targets) == sorted(example.targets), example.prompt


def test_a_classifier_tells_apart_what_it_was_shown() -> None:
    examples = everyday()[::4]
    vectors = np.random.default_rng(0).normal(0, 1 / np.sqrt(DIMENSIONS), (len(examples), DIMENSIONS))
    shown = prepare(examples, vectors.astype(np.float32))
    with ThreadPoolExecutor(1) as pool:
        classifier = train(shown, "test/1", pool)
    assert (classifier.embedder, classifier.features) == ("test/1", names(Reader().classes))
    changes = np.array([example.targets[HORIZONS.index("7d")] == 1 for example in examples])
    full = classifier.full.logits(np.hstack((shown.vectors, shown.features)))[:, HORIZONS.index("7d")]
    plain = classifier.plain.logits(shown.features)[:, HORIZONS.index("7d")]
    assert np.mean((full > 0) == changes) > 0.9
    assert plain[changes].mean() > plain[~changes].mean() + 1
