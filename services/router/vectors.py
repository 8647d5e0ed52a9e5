"""The embedding that travels with a request, as numbers."""

import base64

import numpy as np
from numpy.typing import NDArray

from shared.events import CacheKey


def vector_of(key: CacheKey | None) -> NDArray[np.float32] | None:
    """The prompt's embedding of shape (dimensions,); None where it was not embedded. See ``events.encode_vector``."""
    if key is None or key.embedding is None:
        return None
    return np.frombuffer(base64.b64decode(key.embedding), "<f2").astype(np.float32)
