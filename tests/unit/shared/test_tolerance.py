"""Odd properties of a client's message do not cost the connection."""

import struct
from collections.abc import Iterator
from datetime import datetime

import pytest
from pamqp import decode

from shared import tolerance


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    """Tolerant while the test runs, and as before after it."""
    methods, table = dict(decode.METHODS), dict(decode.TABLE_MAPPING)
    tolerance.install()
    yield
    decode.METHODS.update(methods)
    decode.TABLE_MAPPING.update(table)


def test_a_timestamp_in_microseconds_is_none_and_the_next_field_is_found() -> None:
    data = struct.pack(">Q", 1_700_000_000_000_000) + b"rest"
    assert decode.by_type(data, "timestamp") == (8, None)


def test_a_good_timestamp_stays_what_it_is() -> None:
    length, value = decode.by_type(struct.pack(">Q", 1_700_000_000), "timestamp")
    assert isinstance(value, datetime)
    assert (length, value.year) == (8, 2023)


def test_text_that_is_no_utf_8_gets_replacement_characters() -> None:
    assert decode.by_type(b"\x03a\xffbrest", "shortstr") == (4, "a\ufffdb")
    assert decode.by_type("\x03ünrest".encode(), "shortstr") == (4, "ün")


def test_a_table_that_cannot_be_read_is_empty_and_the_next_field_is_found() -> None:
    nonsense = b"\x01kZ\x00"  # no type has the letter Z
    data = struct.pack(">I", len(nonsense)) + nonsense + b"rest"
    assert decode.by_type(data, "table") == (4 + len(nonsense), {})


def test_a_table_nested_too_deeply_is_empty() -> None:
    data = b""
    for _ in range(2000):
        data = b"\x01kF" + len(data).to_bytes(4, "big") + data
    table = len(data).to_bytes(4, "big") + data
    tolerance.install()
    assert decode.by_type(table, "table") == (len(table), {})
