"""Embeddings on their way between services: base64 of little-endian half floats.

Two bytes a dimension, the precision of ``halfvec``. A module of its own, as it takes numpy: those who only pass an
embedding on do without.
"""

import base64
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float32]
_HALF: Final = np.dtype("<f2")


def encode_vector(vector: ArrayLike) -> str:
    """The text of a vector of shape (dimensions,)."""
    return base64.b64encode(np.asarray(vector, _HALF).tobytes()).decode()


def decode_vector(text: str) -> Vector:
    """The vector of a text, of shape (dimensions,).

    Raises:
        ValueError: it is no such text.
    """
    return np.frombuffer(base64.b64decode(text), dtype=_HALF).astype(np.float32)
