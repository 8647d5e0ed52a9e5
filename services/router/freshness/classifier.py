"""How soon an answer changes, as a trained network tells from the embedding and from what the prompt looks like.

One hidden layer beside a direct path; an output for each horizon: the logarithm of the odds that the answer changes
within it. ``infra/training/freshness.py`` makes the weights; docs/freshness.md says from what.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from shared.policy.freshness import HORIZONS, Horizon

WEIGHTS: Final = Path(__file__).with_name("weights.npz")
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Network:
    """``logits = x @ direct + tanh(x @ hidden + lift) @ output + bias``, x of shape (inputs,) or (prompts, inputs)."""

    direct: Array
    hidden: Array
    lift: Array
    output: Array
    bias: Array

    def logits(self, x: Array) -> Array:
        """Shape (horizons,) or (prompts, horizons); what changes within a day changes within a week."""
        raw = x @ self.direct + np.tanh(x @ self.hidden + self.lift) @ self.output + self.bias
        return np.maximum.accumulate(raw, axis=-1)


@dataclass(frozen=True, slots=True)
class Classifier:
    """The trained weights.

    Attributes:
        version: names the weights, for people.
        embedder: version of the embedder whose vectors they are for.
        features: names of what they are for besides, in order.
        full: for embedding and features side by side.
        plain: for the features alone, where there is no embedding or that of another embedder.
    """

    version: str
    embedder: str
    features: tuple[str, ...]
    full: Network
    plain: Network

    def probabilities(self, features: Array, vector: Array | None) -> Mapping[Horizon, float]:
        """That the answer changes within each horizon.

        Args:
            features: shape (len(self.features),).
            vector: the embedding, of length 1, made by ``self.embedder``; None for none.
        """
        network, x = (self.plain, features) if vector is None else (self.full, np.concatenate((vector, features)))
        return dict(zip(HORIZONS, (1 / (1 + np.exp(-network.logits(x)))).tolist(), strict=True))

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> Self:
        """The weights of a file.

        Raises:
            ValueError: they were made for other horizons.
        """
        with np.load(path, allow_pickle=False) as kept:
            if tuple(kept["horizons"]) != HORIZONS:
                raise ValueError(f"{path}: made for the horizons {', '.join(kept['horizons'])}; train anew")
            networks = (
                Network(*(kept[f"{name}_{part}"].astype(np.float32) for part in Network.__slots__))
                for name in ("full", "plain")
            )
            return cls(str(kept["version"]), str(kept["embedder"]), tuple(map(str, kept["features"])), *networks)

    def save(self, path: Path = WEIGHTS) -> None:
        """Write them as half floats, in numpy's format; the same weights give the same bytes."""
        arrays: dict[str, NDArray[np.generic]] = {
            "version": np.array(self.version),
            "embedder": np.array(self.embedder),
            "horizons": np.array(HORIZONS),
            "features": np.array(self.features),
        }
        for name, network in (("full", self.full), ("plain", self.plain)):
            for part in Network.__slots__:
                arrays[f"{name}_{part}"] = getattr(network, part).astype(np.float16)
        buffer = BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        path.write_bytes(buffer.getvalue())


def together(networks: Sequence[Network]) -> Network:
    """One network that says the mean of several: their hidden layers side by side."""
    return Network(
        direct=np.mean([one.direct for one in networks], axis=0),
        hidden=np.hstack([one.hidden for one in networks]),
        lift=np.concatenate([one.lift for one in networks]),
        output=np.vstack([one.output for one in networks]) / np.float32(len(networks)),
        bias=np.mean([one.bias for one in networks], axis=0),
    )
