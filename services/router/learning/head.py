"""The head: its file, and the score it gives.

The file is JSON of about 80 kB, and 11 bytes a prompt: what it was trained on and how well it did, then the weights,
numbers in base64.
"""

import base64
import hashlib
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    PlainSerializer,
    PositiveInt,
    ValidationError,
    model_validator,
)

from services.router.learning import features
from services.router.learning.rows import fingerprint, part
from services.router.learning.weights import KNOTS, LEAST_GAIN, MOST_GAIN, Bends, Curves, Vectors, Weights
from services.router.scoring import Scored
from shared.errors import StartupError
from shared.faults import told

FORMAT: Final = "forebay-routing-head-1"
LARGEST_BYTES: Final = 16 * 2**20
# Prompts whose fingerprints are kept, 11 bytes each in the file.
MOST_SEEN: Final = 100_000
# Reasons name the features that matter most, down to this many and this much; the rest is summed up.
NAMED: Final = 3
LEAST_NAMED: Final = 0.005


class InvalidHead(StartupError):
    """A head's file can't be used; the message says why, and what to do."""

    code = "invalid_head"


def _numbers(kind: str) -> Callable[[object], object]:
    def decode(value: object) -> object:
        if isinstance(value, np.ndarray):
            return value
        if not isinstance(value, str):
            raise ValueError("must be numbers in base64")  # noqa: TRY004 - pydantic collects these
        try:
            found = np.frombuffer(base64.b64decode(value, validate=True), dtype=kind)
        except ValueError:
            raise ValueError("must be numbers in base64") from None
        if not np.isfinite(found).all():
            raise ValueError("must be finite numbers")
        return found

    return decode


def _text(kind: str) -> PlainSerializer:
    return PlainSerializer(lambda numbers: base64.b64encode(numbers.astype(kind).tobytes()).decode())


Doubles = Annotated[NDArray[np.float64], BeforeValidator(_numbers("<f8")), _text("<f8")]
Singles = Annotated[NDArray[np.float32], BeforeValidator(_numbers("<f4")), _text("<f4")]
Fingerprints = Annotated[NDArray[np.uint64], BeforeValidator(_numbers("<u8")), _text("<u8")]
Halves = Annotated[NDArray[np.float32], BeforeValidator(_numbers("<f2")), _text("<f2")]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Figure(_Table):
    """A measure on the held-out rows, with its 95 % interval."""

    value: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat


class Record(_Table):
    """Where a head comes from, and how well it did on rows held out.

    Attributes:
        rows: trained on.
        digest: SHA-256 of all rows, held-out ones included.
        held_out: share of the prompts, by their hash.
        metrics: APGR, CPT50 and CPT80 of the head, the rules and at random.
        better: APGR less that of the rules.
    """

    trained_at: AwareDatetime
    rows: PositiveInt
    digest: str
    held_out: Annotated[float, Field(gt=0, lt=1)]
    held_out_rows: PositiveInt
    sources: dict[str, int]
    metrics: dict[str, dict[str, Figure]]
    better: Figure


class CurvesFile(_Table):
    """``weights.Curves`` in a file."""

    bias: FiniteFloat
    slopes: Doubles
    usual: Doubles


class WeightsFile(_Table):
    """``weights.Weights`` in a file."""

    knots: Doubles
    limit: Doubles
    curves: CurvesFile
    alone: CurvesFile
    landmarks: Halves
    pull: Singles
    usual: FiniteFloat


class Head(_Table):
    """A learned head. Its score is the gain in quality, -1 to 1, to expect of the stronger model.

    Attributes:
        features: version of the features it was trained on.
        embedder: version of the embedder, likewise.
        dimensions: of its vectors.
        threshold: the score that the share of prompts asked for in training lies above.
        seen: fingerprints of the prompts it was trained on, in order; empty where they are too many.
    """

    format: Literal["forebay-routing-head-1"] = FORMAT
    features: str = features.VERSION
    embedder: str
    dimensions: PositiveInt
    threshold: FiniteFloat
    record: Record
    weights: WeightsFile
    seen: Fingerprints = Field(default_factory=lambda: np.empty(0, dtype=np.uint64))

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.features != features.VERSION:
            raise ValueError(
                f"features: trained on {self.features!r}, and this router has {features.VERSION!r}: train it anew"
            )
        weights, count, landmarks = self.weights, features.COUNT, len(self.weights.pull)
        for name, numbers, length in (
            ("knots", weights.knots, count * len(KNOTS)),
            ("limit", weights.limit, count),
            ("curves.slopes", weights.curves.slopes, count * len(KNOTS)),
            ("curves.usual", weights.curves.usual, count),
            ("alone.slopes", weights.alone.slopes, count * len(KNOTS)),
            ("alone.usual", weights.alone.usual, count),
            ("landmarks", weights.landmarks, landmarks * self.dimensions),
        ):
            if numbers.size != length:
                raise ValueError(f"weights.{name}: {numbers.size} numbers where {length} belong: a damaged file")
        return self

    @classmethod
    def make(
        cls, weights: Weights, *, embedder: str, threshold: float, record: Record, prompts: Collection[str]
    ) -> Self:
        """A head of weights that were trained on some prompts."""
        seen = sorted(set(map(fingerprint, prompts)))
        return cls(
            embedder=embedder,
            dimensions=weights.landmarks.shape[1],
            threshold=threshold,
            record=record,
            weights=WeightsFile(
                knots=weights.bends.knots.ravel(),
                limit=weights.bends.limit,
                curves=_curves_file(weights.curves),
                alone=_curves_file(weights.alone),
                landmarks=weights.landmarks.ravel(),
                pull=weights.pull,
                usual=weights.usual,
            ),
            seen=np.array(seen if len(seen) <= MOST_SEEN else [], dtype=np.uint64),
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and validate a file.

        Raises:
            InvalidHead: it is missing or damaged, or made for other features.
        """
        try:
            if path.stat().st_size > LARGEST_BYTES:
                raise InvalidHead(f"{path}: more than {LARGEST_BYTES} bytes: no head's file")
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InvalidHead(f"{path}: {error.strerror}; `forebay router train` makes one") from None
        except ValidationError as error:
            raise InvalidHead(f"{path}: {told(error, most=5)}") from None

    def save(self, path: Path) -> None:
        """Write the file; whoever reads there sees the old one or the whole new one."""
        draft = path.with_name(f".{path.name}.draft")
        draft.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        draft.replace(path)

    @cached_property
    def version(self) -> str:
        """Names the weights: ``head/`` and the beginning of their digest."""
        return f"head/{hashlib.sha256(self.weights.model_dump_json().encode()).hexdigest()[:12]}"

    @cached_property
    def arithmetic(self) -> Weights:
        """The weights, as they compute."""
        kept, shape = self.weights, (len(KNOTS), features.COUNT)
        curves, alone = (Curves(one.bias, one.slopes.reshape(shape), one.usual) for one in (kept.curves, kept.alone))
        landmarks = kept.landmarks.astype(np.float32).reshape(-1, self.dimensions)
        bends = Bends(kept.knots.reshape(shape), kept.limit)
        return Weights(bends, curves, alone, landmarks, kept.pull.astype(np.float32), kept.usual)

    def never_saw(self, prompt: str) -> bool:
        """Whether it was certainly not trained on this prompt: what is held out goes by the prompt's hash."""
        if part(prompt) < self.record.held_out:
            return True
        wanted = np.uint64(fingerprint(prompt))
        at = int(np.searchsorted(self.seen, wanted))
        return bool(self.seen.size) and not (at < self.seen.size and self.seen[at] == wanted)

    def score(self, prompt: str, vector: Vectors | None) -> Scored:
        """Without an embedding the features alone decide, on the same scale."""
        weights = self.arithmetic
        curves = weights.alone if vector is None else weights.curves
        terms = curves.terms(weights.bends.pieces(features.features(prompt))).tolist()
        pushed = sum(terms)
        about = None if vector is None else weights.about(vector)
        reasons = (f"{self.version}: average gain {curves.bias:+.3f}", *_reasons(terms, pushed, about))
        total = curves.bias + pushed + (about or 0.0)
        gain = max(LEAST_GAIN, min(MOST_GAIN, total))
        if gain != total:
            reasons = (*reasons, f"no gain is beyond {gain:+.0f}")
        return Scored(gain, reasons, informed=True, by=self.version)


def _reasons(terms: list[float], pushed: float, about: float | None) -> Iterator[str]:
    """What pushed, strongest first, features by name and the embedding as a whole; they add up."""
    sizes = list(map(abs, terms))
    least = max(sorted(sizes)[-NAMED], LEAST_NAMED)
    told = [(size, terms[i], features.NAMES[i]) for i, size in enumerate(sizes) if size >= least]
    rest = pushed - sum(term for _, term, _ in told)
    told.append((abs(rest), rest, "other features"))
    if about is not None:
        told.append((abs(about), about, "embedding"))
    told.sort(reverse=True)
    return (f"{name} {term:+.3f}" for _, term, name in told)


def _curves_file(curves: Curves) -> CurvesFile:
    return CurvesFile(bias=curves.bias, slopes=curves.slopes.ravel(), usual=curves.usual)
