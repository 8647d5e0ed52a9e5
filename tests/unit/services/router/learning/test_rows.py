"""Reading labels, and cutting them."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.learning.rows import InvalidRows, Labelled, digest, labelled, part, read, split

PAIR = {"id": "1", "prompt": "p", "weak_quality": 0.25, "strong_quality": 1.0, "source": "s", "subject": "any"}
RATING = {"prompt": "p", "good": 0.5, "tier": "light"}


@pytest.mark.parametrize("zipped", [False, True])
def test_pairs_and_ratings_are_read_plain_and_zipped(tmp_path: Path, zipped: bool) -> None:
    file, text = tmp_path / "rows", f"{json.dumps(PAIR)}\n\n{json.dumps(RATING)}\n".encode()
    file.write_bytes(gzip.compress(text) if zipped else text)
    pairs, ratings = read([file])
    assert labelled(pairs) == [Labelled("p", 0.75, "s")]
    assert [(one.good, one.tier) for one in ratings] == [(0.5, "light")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2"),
        ("[]", "line 2: row: "),
        (json.dumps(PAIR | {"weak_quality": 2}), "weak_quality: Input should be less than or equal to 1"),
        (json.dumps(PAIR | {"strong_quality": float("nan")}), "strong_quality"),
        (json.dumps({"prompt": "p"}), "weak_quality: Field required"),
        (json.dumps(RATING | {"prompt": ""}), "prompt"),
    ],
)
def test_a_wrong_line_is_named_with_what_would_be_right(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(PAIR)}\n{line}\n")
    with pytest.raises(InvalidRows) as error:
        read([file])
    assert said in str(error.value)
    assert "{prompt, weak_quality, strong_quality}" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows").write_bytes(content)
    with pytest.raises(InvalidRows, match="no rows"):
        read([tmp_path / "rows"])


def test_what_is_no_file_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRows, match="No such file"):
        read([tmp_path / "missing"])
    (tmp_path / "rows").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRows, match="decode"):
        read([tmp_path / "rows"])
    (tmp_path / "cut").write_bytes(gzip.compress(json.dumps(PAIR).encode() * 99)[:40])
    with pytest.raises(InvalidRows):
        read([tmp_path / "cut"])


rows = st.lists(st.text(min_size=1).map(lambda prompt: Labelled(prompt, 0.5)), max_size=30)


@given(rows, st.floats(0.1, 0.9))
def test_equal_prompts_are_on_one_side_and_none_is_lost(found: list[Labelled], held_out: float) -> None:
    seen, unseen = split(found, held_out)
    assert len(seen) + len(unseen) == len(found)
    assert not {row.prompt for row in seen} & {row.prompt for row in unseen}
    assert all(0 <= part(row.prompt) < 1 for row in found)


@given(rows)
def test_the_order_of_rows_does_not_change_their_digest(found: list[Labelled]) -> None:
    assert digest(found) == digest(found[::-1])


def test_a_changed_label_changes_the_digest() -> None:
    assert digest([Labelled("a", 0.5)]) != digest([Labelled("a", 0.25)])
