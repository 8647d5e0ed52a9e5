"""The embedding that comes with a request."""

import base64
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.events import CacheKey

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Embedding:
    """A prompt's unit vector, of shape (dimensions,), and the version of what made it."""

    vector: Vector
    embedder: str


def vector_by(embedder: str, embedding: Embedding | None) -> Vector | None:
    """The vector, where this very embedder made it: those of another mean nothing to what was trained on its own."""
    return embedding.vector if embedding is not None and embedding.embedder == embedder else None


def embedding_of(key: CacheKey | None) -> Embedding | None:
    """The embedding of a request's prompt; None where the cache has not embedded it."""
    if key is None or key.embedding is None:
        return None
    vector = np.frombuffer(base64.b64decode(key.embedding), dtype="<f2").astype(np.float32)
    return Embedding(vector, key.embedder)
