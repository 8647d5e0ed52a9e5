"""A head trained on made-up prompts: those with digits gain by the stronger model, others do not."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from services.router.learning import candidate
from services.router.learning.candidate import Candidate
from services.router.learning.rows import Labelled
from services.router.learning.weights import Vectors
from services.router.scoring import Rules
from tests.support import make

EMBEDDER = "all-MiniLM-L6-v2/1.0.0+test"
DIMENSIONS = 384
WORDS = ["river", "stone", "cloud", "window", "garden", "paper", "silver", "morning", "market", "bridge"]


def unit_vectors(count: int, seed: int = 0) -> Vectors:
    drawn = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)
    vectors: Vectors = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return vectors


def made_up(count: int, *, seed: int = 0, told: float = 0.9) -> list[Labelled]:
    """Prompts of which half have digits, and gain with probability ``told``, the others with 1 - ``told``."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        words = " ".join(rng.choice(WORDS, rng.integers(5, 12)))
        digits = number % 2 == 0
        prompt = f"{words} {rng.integers(1000, 9999) if digits else 'only'} {words[::-1]}"
        gains = rng.random() < (told if digits else 1 - told)
        rows.append(Labelled(prompt, float(gains), "digits" if digits else "words"))
    return rows


Train = Callable[..., Candidate]


def trained(count: int = 400, *, told: float = 0.9, seed: int = 0, embedder: str = EMBEDDER) -> Candidate:
    """A head trained on made-up prompts."""
    rows = made_up(count, seed=seed, told=told)
    return candidate.train(
        rows,
        unit_vectors(len(rows), seed),
        Rules(make.policy().router),
        embedder=embedder,
        now=datetime(2026, 1, 2, tzinfo=UTC),
    )


@pytest.fixture(scope="session")
def train() -> Train:
    return trained


@pytest.fixture
def head_file(tmp_path: Path, train: Train) -> Path:
    file = tmp_path / "head.json"
    train().head.save(file)
    return file
