"""Odd properties of a client's message must not cost us the connection.

pamqp decodes the properties of a message in the reader of the connection, and raises on a timestamp in microseconds or
on text that is no UTF-8. The connection is lost then, with all that was under way on it, and the message comes again:
one client's slip would stop everybody. The AMQP door has its own checks, so here an odd timestamp becomes none, odd
text gets replacement characters, and a table that can't be read is empty.
"""

from collections.abc import Callable
from typing import Any

from pamqp import decode

Decoder = Callable[[bytes], tuple[int, Any]]
TIMESTAMP_BYTES = 8
LENGTH_BYTES = 4


def install() -> None:
    """Make this process's AMQP decoding tolerant; repeating it changes nothing."""
    decode.METHODS["timestamp"] = decode.TABLE_MAPPING[b"T"] = _timestamp
    decode.METHODS["shortstr"] = _short_text
    decode.METHODS["table"] = _table


def _timestamp(data: bytes) -> tuple[int, Any]:
    try:
        return decode.timestamp(data)
    except Exception:  # a year beyond the calendar, and what else there may be
        return TIMESTAMP_BYTES, None


def _short_text(data: bytes) -> tuple[int, str]:
    length = data[0]
    return length + 1, data[1 : length + 1].decode("utf-8", "replace")


def _table(data: bytes) -> tuple[int, Any]:
    try:
        return decode.field_table(data)
    except Exception:  # nested too deeply, cut off, of unknown types: whatever it is, it must not get out
        return LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "big"), {}
