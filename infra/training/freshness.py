"""Train the classifier of freshness: ``python -m infra.training.freshness DATA``.

DATA is a folder with ``freshness/freshness.jsonl.gz``: questions of RecencyQA (MIT), EverGreenQA (MIT) and FreshQA
(Apache-2.0), one JSON object a line, with ``source``, ``label`` and, of RecencyQA, ``hours``: how long an answer holds,
and ``confidence``: the share of those who labelled it that said so. Beside them ``everyday.tsv``: prompts that users of
language models write, which none of the three has any of.

The three mean different things by change: RecencyQA says how soon, FreshQA whether within a year, EverGreenQA whether
ever. So there is an output for each horizon, and each label teaches those it says something about.
"""

import argparse
import gzip
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from infra.training.network import Labelled, Shape, fit, workers
from services.router.freshness.classifier import WEIGHTS, Array, Classifier, Network, together
from services.router.freshness.features import features, names
from services.router.freshness.reading import Reader
from shared.embedding.builtin import Embedder
from shared.policy.freshness import HORIZONS, Horizon

EVERYDAY: Final = Path(__file__).with_name("everyday.tsv")
# When the questions were labelled: what "this year" means in them.
LABELLED_IN: Final = 2025
HOURS: Final[dict[Horizon, float]] = {
    "1d": 24, "7d": 168, "30d": 730, "90d": 2190, "1y": 8760, "3y": 26_280, "ever": 1e8,
}  # fmt: skip
# What RecencyQA's labels say, from "an hour" to "never".
PERIODS: Final = (1, 4, 24, 72, 168, 504, 730, 2190, 8760, 26_280, 87_600, 1e9)
# How probable a period is that all said who labelled; the others share the rest, each step away half as probable.
CERTAIN: Final = 0.8
UNKNOWN: Final = float("nan")
# What FreshQA's labels say: fast-changing within a year, slow-changing after it (Vu et al., 2023, section 2).
FRESHQA: Final[dict[str, tuple[float, ...]]] = {
    "fast-changing": (UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, 1, 1, 1),
    "slow-changing": (0, 0, 0, 0, 0, UNKNOWN, 1),
    "never-changing": (0,) * len(HORIZONS),
}
EVERGREENQA: Final[dict[str, tuple[float, ...]]] = {
    "mutable": (UNKNOWN,) * (len(HORIZONS) - 1) + (1,),
    "evergreen": (0,) * len(HORIZONS),
}
CORPORA: Final = ("recencyqa", "evergreenqa", "freshqa", "everyday")
# Coordinates of unit vectors of 384 dimensions are about 0.05 large; features are scaled to 1 by their spread.
VECTOR_SCALE: Final = np.float32(8)
LEAST_SPREAD: Final = 0.05
FULL: Final = Shape(hidden=96, epochs=80, dropout=0.3)
PLAIN: Final = Shape(hidden=24, epochs=40)
SEEDS: Final = 3
CHUNK: Final = 256
# Weight of a row by how rare its corpus is: 0 would be none, 1 would let all corpora count the same.
LEVELLING: Final = 0.25


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and what is known of how soon its answer changes: one number for each horizon, NaN for unknown.

    Attributes:
        targets: what its label says: 1 for a change within the horizon, 0 for none.
        taught: what a network is taught: the same, less certain where those who labelled were.
    """

    prompt: str
    corpus: str
    targets: tuple[float, ...]
    taught: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Examples as the classifier sees them: features of shape (rows, features), vectors of shape (rows, 384)."""

    examples: Sequence[Example]
    features: Array
    vectors: Array

    def part(self, chosen: NDArray[np.bool_]) -> "Prepared":
        """Those of which ``chosen``, of shape (rows,), is true."""
        examples = [each for each, taken in zip(self.examples, chosen, strict=True) if taken]
        return Prepared(examples, self.features[chosen], self.vectors[chosen])


def main() -> None:
    """Train on all there is and write the weights."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder of the labelled data")
    arguments = parser.parse_args()
    embedder = Embedder()
    examples = [*labelled(arguments.data), *everyday()]
    prompts = [each.prompt for each in examples]
    vectors = [embedder.embed_now(prompts[i : i + CHUNK]) for i in range(0, len(prompts), CHUNK)]
    with workers() as pool:
        train(prepare(examples, np.concatenate(vectors)), embedder.version, pool).save()
    print(f"{WEIGHTS}: {WEIGHTS.stat().st_size:,} bytes, from {len(examples):,} prompts")  # noqa: T201 - a command


def labelled(data: Path) -> list[Example]:
    """The examples of the three corpora."""
    with gzip.open(data / "freshness" / "freshness.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Example(row["prompt"], row["source"].split("_")[0], targets(row), taught(row)) for row in rows]


def everyday() -> list[Example]:
    """Everyday prompts: the least horizon within which an answer changes, or never."""
    examples = []
    for line in EVERYDAY.read_text(encoding="utf-8").splitlines():
        within, prompt = line.split("\t")
        least = len(HORIZONS) if within == "never" else HORIZONS.index(within)
        known = tuple(float(i >= least) for i in range(len(HORIZONS)))
        examples.append(Example(prompt, "everyday", known, known))
    return examples


def targets(row: dict[str, Any]) -> tuple[float, ...]:
    """What a row says of each horizon: 1 for a change within it, 0 for none, NaN for nothing."""
    match row["source"].split("_")[0]:
        case "freshqa":
            return FRESHQA[row["label"]]
        case "evergreenqa":
            return EVERGREENQA[row["label"]]
        case _:
            return tuple(float(row["hours"] <= HOURS[horizon]) for horizon in HORIZONS)


def taught(row: dict[str, Any]) -> tuple[float, ...]:
    """What a network is taught of a row: of RecencyQA, that the periods beside the one that was said may be right."""
    if "hours" not in row:
        return targets(row)
    own, place = CERTAIN * row["confidence"], PERIODS.index(row["hours"])
    share = 0.5 ** np.abs(np.arange(len(PERIODS)) - place)
    share[place] = 0
    share *= (1 - own) / share.sum()
    share[place] = own
    return tuple(float(share[np.array(PERIODS) <= HOURS[horizon]].sum()) for horizon in HORIZONS)


def prepare(examples: Sequence[Example], vectors: Array) -> Prepared:
    """Read the prompts; ``vectors`` are theirs, of shape (examples, 384)."""
    reader = Reader()
    seen = [features(reader.read(each.prompt), reader.classes, LABELLED_IN) for each in examples]
    return Prepared(examples, np.stack(seen), vectors)


def train(on: Prepared, embedder: str, pool: Executor) -> Classifier:
    """A classifier from examples: the mean of some networks that differ in their seed, fitted side by side."""
    classes = names(Reader().classes)
    mean, spread = on.features.mean(axis=0), np.maximum(on.features.std(axis=0), LEAST_SPREAD)
    scaled = (on.features - mean) / spread
    seen = _rows(on, np.hstack((on.vectors * VECTOR_SCALE, scaled))), _rows(on, scaled)
    full, plain = (
        [pool.submit(fit, rows, shape, seed) for seed in range(SEEDS)]
        for rows, shape in zip(seen, (FULL, PLAIN), strict=True)
    )
    vector_scale = np.full(on.vectors.shape[1], VECTOR_SCALE)
    shift, scale = np.concatenate((np.zeros_like(vector_scale), mean)), np.concatenate((vector_scale, 1 / spread))
    return Classifier(
        version=_digest(on, embedder),
        embedder=embedder,
        features=classes,
        full=together([_unscaled(one.result(), shift, scale) for one in full]),
        plain=together([_unscaled(one.result(), mean, 1 / spread) for one in plain]),
    )


def _rows(on: Prepared, x: Array) -> Labelled:
    """The examples for ``fit``; a small corpus counts for more than its share."""
    corpora = np.array([CORPORA.index(each.corpus) for each in on.examples])
    counts = np.bincount(corpora, minlength=len(CORPORA))
    weights = ((len(corpora) / np.count_nonzero(counts) / np.maximum(counts, 1)) ** LEVELLING)[corpora]
    aims = np.array([each.taught for each in on.examples], np.float32)
    return Labelled(x, aims, corpora, weights.astype(np.float32))


def _unscaled(network: Network, shift: Array, scale: Array) -> Network:
    """The same network for inputs as they are, instead of ``(x - shift) * scale``."""
    direct, hidden = network.direct * scale[:, None], network.hidden * scale[:, None]
    return Network(
        direct=direct,
        hidden=hidden,
        lift=network.lift - shift @ hidden,
        output=network.output,
        bias=network.bias - shift @ direct,
    )


def _digest(on: Prepared, embedder: str) -> str:
    """Changes when the examples, their features or the embedder do."""
    parts = chain((embedder,), (f"{each.corpus}\t{each.prompt}\t{each.taught}" for each in on.examples))
    digest = hashlib.sha256("\n".join(parts).encode())
    digest.update(on.features.tobytes())
    return digest.hexdigest()[:12]


if __name__ == "__main__":
    main()
