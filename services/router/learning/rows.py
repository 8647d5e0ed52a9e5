"""Labelled prompts: from files of JSON lines, or from ratings."""

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from shared.errors import ForebayError
from shared.events import Quality

MOST_FAULTS: Final = 5


class InvalidRows(ForebayError):
    """Rows that can't be learned from; the message names the file, the line and what would be right."""

    code = "invalid_rows"


class Pair(BaseModel):
    """A prompt that both models answered, and how good the answers were, 0 to 1."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: Annotated[str, StringConstraints(min_length=1)]
    weak_quality: Quality
    strong_quality: Quality
    source: str = ""


class Rating(BaseModel):
    """A prompt that one tier answered, and how good the answer was, 0 to 1.

    Attributes:
        chance: probability with which it was sent to this tier, where that was drawn by lot; None where nobody knows.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: Annotated[str, StringConstraints(min_length=1)]
    good: Quality
    tier: str
    chance: Annotated[float, Field(gt=0, le=1)] | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """A prompt and what a stronger model gains on it.

    Attributes:
        gain: quality of the strong model's answer less that of the weak one's, -1 to 1; of rows made of ratings an
            estimate, which may lie outside.
        source: where the prompt is from; empty where nobody said.
    """

    prompt: str
    gain: float
    source: str = ""


def read(files: Sequence[Path]) -> tuple[list[Pair], list[Rating]]:
    """The rows of files of JSON lines, plain or gzip: pairs, and ratings.

    Raises:
        InvalidRows: a file can't be read or has no rows, or lines are wrong; the first few are named.
    """
    pairs: list[Pair] = []
    ratings: list[Rating] = []
    faults: list[str] = []
    for file in files:
        before = len(pairs) + len(ratings)
        for number, line in _lines(file):
            try:
                row = json.loads(line)
                kind: type[Pair | Rating] = Rating if isinstance(row, dict) and "good" in row else Pair
                found = kind.model_validate(row)
            except (ValidationError, ValueError) as error:
                faults.append(f"{file}, line {number}: {_said(error)}")
                continue
            (ratings if isinstance(found, Rating) else pairs).append(found)  # type: ignore[arg-type]
        if not faults and len(pairs) + len(ratings) == before:
            raise InvalidRows(f"{file}: no rows in it")
    if faults:
        more = f"; {len(faults) - MOST_FAULTS} more lines are wrong" if len(faults) > MOST_FAULTS else ""
        raise InvalidRows(
            "; ".join(faults[:MOST_FAULTS])
            + more
            + ". A row is {prompt, weak_quality, strong_quality}, or {prompt, good, tier} and perhaps chance; "
            "qualities are 0 to 1"
        )
    return pairs, ratings


def labelled(pairs: Iterable[Pair]) -> list[Labelled]:
    """Pairs as rows to learn from."""
    return [Labelled(pair.prompt, pair.strong_quality - pair.weak_quality, pair.source) for pair in pairs]


def digest(rows: Iterable[Labelled]) -> str:
    """SHA-256 of prompts and gains, in hexadecimal, whatever their order."""
    return hashlib.sha256("".join(sorted(map(_digest, rows))).encode()).hexdigest()


def part(prompt: str, salt: str = "") -> float:
    """A number in [0, 1) that depends on the prompt alone: equal prompts never end up on two sides of a split."""
    return int(_sha256(salt + prompt)[:13], 16) / 16**13


def fingerprint(prompt: str) -> int:
    """64 bits that tell the prompt from others."""
    return int(_sha256(prompt)[:16], 16)


def split(rows: Sequence[Labelled], held_out: float, salt: str = "") -> tuple[list[Labelled], list[Labelled]]:
    """Rows to train on and rows held out, a share of ``held_out`` of the prompts."""
    return (
        [row for row in rows if part(row.prompt, salt) >= held_out],
        [row for row in rows if part(row.prompt, salt) < held_out],
    )


def _digest(row: Labelled) -> str:
    return _sha256(f"{row.gain:.6g} {row.prompt}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        with file.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with (gzip.open if zipped else open)(file, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidRows(f"{file}: {getattr(error, 'strerror', None) or error}") from None


def _said(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return ", ".join(f"{'.'.join(map(str, e['loc'])) or 'row'}: {e['msg']}" for e in error.errors())
    return str(error)
