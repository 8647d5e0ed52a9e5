"""Prompts to vectors, by the real model."""

import os
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from shared.embedding import builtin as module
from shared.embedding import weights
from shared.embedding.builtin import DIMENSIONS, MAX_TOKENS, Embedder
from shared.errors import StartupError

QUESTIONS = (
    "What is it?",
    "How do I learn to play the guitar?",
    "Which of the planets has the most moons, and how many of them were found by amateurs?",
    "日本語",
    "?",
)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


async def test_vectors_have_length_one_and_the_dimensions_of_the_table(embedder: Embedder) -> None:
    vectors = await embedder.embed(["Hello?", "x" * 5000, "日本語", " ", ""])
    assert vectors.shape == (5, DIMENSIONS)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-5)


async def test_no_text_is_no_vector(embedder: Embedder) -> None:
    assert (await embedder.embed([])).shape == (0, DIMENSIONS)
    assert await embedder.embed_each([]) == []


def test_a_vector_does_not_depend_on_what_else_is_in_the_batch() -> None:
    together = Embedder().embed_now(QUESTIONS)
    alone = np.stack([Embedder().embed_now([question])[0] for question in QUESTIONS[:3]])
    assert together[:3] == pytest.approx(alone, abs=1e-4)


async def test_equal_texts_in_a_batch_have_equal_vectors(embedder: Embedder) -> None:
    one, _, two = await embedder.embed(["What is it?", "Something quite different and longer", "What is it?"])
    assert (one == two).all()


async def test_another_wording_is_nearer_than_another_question(embedder: Embedder) -> None:
    asked, same, other = await embedder.embed(
        ["What is the capital of France?", "Tell me France's capital city.", "How do I boil an egg?"]
    )
    assert asked @ same > 0.8
    assert asked @ other < 0.4


@pytest.mark.parametrize(
    ("text", "truncated"),
    [
        (" word" * (MAX_TOKENS - 2), False),
        (" word" * (MAX_TOKENS - 1), True),
        (" " * module.MAX_CHARACTERS, False),
        (" " * module.MAX_CHARACTERS + "word", True),
    ],
)
async def test_what_the_model_does_not_read_to_its_end_has_no_vector(
    embedder: Embedder, text: str, truncated: bool
) -> None:
    assert embedder.truncated(text) is truncated
    before, found, after = await embedder.embed_each(["one", text, "two"])
    assert (found is None) is truncated
    expected = await embedder.embed(["one", "two"])
    assert before == pytest.approx(expected[0], abs=1e-5)
    assert after == pytest.approx(expected[1], abs=1e-5)


def test_no_character_is_too_odd(embedder: Embedder) -> None:
    nul, plain, half, mark = embedder.embed_now(["a\0b", "ab", "\ud800 x", "? x"])
    assert nul == pytest.approx(plain, abs=1e-5)
    assert half == pytest.approx(mark, abs=1e-5)


def test_several_threads_may_read_at_once() -> None:
    shared = Embedder()
    results: dict[int, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = {}
    threads = [Thread(target=lambda n=n: results.update({n: shared.embed_now(QUESTIONS)})) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((results[n] == results[0]).all() for n in range(4))


def test_the_version_names_model_weights_and_arithmetic(embedder: Embedder) -> None:
    model, _, rest = embedder.version.partition("/")
    assert model == "all-MiniLM-L6-v2"
    assert rest.endswith(f"+{weights.RECIPE}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model in it."""
    folder = tmp_path_factory.mktemp("weights")
    weights.load(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    for path in made.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_the_model_is_made_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_make_elsewhere", lambda _: pytest.fail("made again"))
    assert weights.load(folder) == next(folder.iterdir()).read_bytes()
    assert len(list(folder.iterdir())) == 1


def test_it_comes_out_the_same_each_time(folder: Path) -> None:
    before = [path.name for path in folder.iterdir()]
    weights.make(folder)
    assert [path.name for path in folder.iterdir()] == before


@pytest.mark.parametrize("damage", [b"", b"nonsense"])
def test_a_damaged_file_is_made_anew(folder: Path, damage: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage)
    monkeypatch.setattr(weights, "_make_elsewhere", lambda _: path.write_bytes(whole))
    assert weights.load(folder) == whole


def test_a_folder_that_others_may_write_to_is_passed_over(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_to_all = tmp_path_factory.mktemp("open")
    open_to_all.chmod(0o777)
    monkeypatch.setattr(weights, "_cache", lambda: open_to_all)
    monkeypatch.setattr(weights, "_temporary", lambda: folder)
    assert weights.load() == next(folder.iterdir()).read_bytes()


def test_without_a_place_to_keep_it_there_is_no_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match="no place to be kept"):
        weights.load(tmp_path / "file" / "folder")


def test_it_is_kept_where_the_user_keeps_such_things(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert weights._cache() == Path("/elsewhere/forebay")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert weights._cache() == Path("~/.cache/forebay").expanduser()
    assert weights._temporary().name == f"forebay-{os.geteuid()}"
