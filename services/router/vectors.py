"""The embedding that comes with a request."""

from dataclasses import dataclass

from shared.events import CacheKey
from shared.vectors import Vector, decode_vector


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
    return Embedding(decode_vector(key.embedding), key.embedder)
