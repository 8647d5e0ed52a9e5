"""The embedding that comes with a request."""

import base64
from typing import TYPE_CHECKING

import numpy as np

from shared.events import CacheKey

if TYPE_CHECKING:
    from numpy.typing import NDArray


def vector_of(key: CacheKey | None) -> "NDArray[np.float32] | None":
    """The unit vector of a request's prompt, shape (dimensions,); None where the cache has not embedded it."""
    if key is None or key.embedding is None:
        return None
    return np.frombuffer(base64.b64decode(key.embedding), dtype="<f2").astype(np.float32)
