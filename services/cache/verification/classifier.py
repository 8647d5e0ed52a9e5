"""The small model that weighs what the guards leave open: logistic regression on the features of a pair."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from services.cache.verification.features import NAMES, Floats
from shared.errors import StartupError

SHIPPED: Final = Path(__file__).with_name("verifier.json")


@dataclass(frozen=True, slots=True)
class Classifier:
    """Weights, and where they come from.

    Attributes:
        threshold: the least probability at which two prompts count as the same.
        kinds: kinds of labelled pairs it was trained on; what is not among them was never seen.
    """

    version: str
    threshold: float
    mean: Floats
    scale: Floats
    weights: Floats
    bias: float
    kinds: frozenset[str]

    def probability(self, features: Floats) -> Floats:
        """The probability that pairs are the same question; features of shape (pairs, len(NAMES))."""
        logits = (features - self.mean) / self.scale @ self.weights + self.bias
        return (1 / (1 + np.exp(-np.clip(logits, -30, 30)))).astype(np.float32)


def load(file: Path = SHIPPED) -> Classifier:
    """The classifier in a file that infra.training.verifier wrote.

    Raises:
        StartupError: its features are not those of this version.
    """
    stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if tuple(stored["features"]) != NAMES:
        raise StartupError(f"{file.name} was trained on other features: run `make train-verifier`")
    return Classifier(
        version=stored["version"],
        threshold=stored["threshold"],
        mean=np.array(stored["mean"], dtype=np.float32),
        scale=np.array(stored["scale"], dtype=np.float32),
        weights=np.array(stored["weights"], dtype=np.float32),
        bias=stored["bias"],
        kinds=frozenset(stored["kinds"]),
    )
