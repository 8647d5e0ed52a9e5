"""Prompts for the benches of the cache, and their vectors, which are computed once and kept."""

import gzip
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from shared.embedding.builtin import DIMENSIONS, Embedder, Vectors

KEPT: Final = Path("build/bench")
CHUNK: Final = 512
SOURCES: Final = (
    ("cache/qqp_stream", "query"),
    ("cache/clinc150_stream", "query"),
    ("cache/stsb", "a b"),
    ("cache/checklist_nearmiss", "a b"),
    ("cache/paws_qqp", "a b"),
    ("freshness/freshness", "prompt"),
    ("routing/mixtral_gpt4", "prompt"),
)


def rows(data: Path, name: str) -> list[dict[str, str]]:
    """The rows of a data set."""
    with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def distinct(data: Path) -> list[str]:
    """All distinct texts of the public sets, in a fixed order: 104,557 with the sets of 2026-11."""
    found = {row[field]: None for name, fields in SOURCES for row in rows(data, name) for field in fields.split()}
    return list(found)


def vectors(embedder: Embedder, texts: Sequence[str]) -> tuple[Vectors, float]:
    """Unit vectors of shape (len(texts), 384), and the CPU seconds they took: 0 when they were kept from before."""
    name = hashlib.sha256("\n".join((embedder.version, *texts)).encode(errors="replace")).hexdigest()[:16]
    path = KEPT / f"{name}.npy"
    if path.exists():
        return np.load(path).astype(np.float32), 0.0
    began = time.process_time()
    result = np.empty((len(texts), DIMENSIONS), dtype=np.float16)
    for start in range(0, len(texts), CHUNK):
        result[start : start + CHUNK] = embedder.embed_now(texts[start : start + CHUNK])
    KEPT.mkdir(parents=True, exist_ok=True)
    np.save(path, result)
    return result.astype(np.float32), time.process_time() - began
