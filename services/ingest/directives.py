"""``Cache-Control`` of a request (RFC 9111, section 5.2.1): what a caller says about the cache, at both doors."""

import re
from typing import Final

from shared.errors import InvalidRequest
from shared.events import CacheControl

HEADER: Final = "Cache-Control"
MAX_CHARS: Final = 1000
# RFC 9111, section 1.2.2: a number of seconds too large for a cache is taken for 2**31.
MOST_S: Final = 2**31
# One list member: whatever is between commas, which quoted strings may contain.
_MEMBER: Final = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_MAX_AGE: Final = re.compile(r'[0-9]+|"[0-9]+"')


def cache_control(text: str, *, pointer: str) -> CacheControl:
    """The directives of a header: ``no-cache``, ``no-store`` and ``max-age=N``; others mean nothing here.

    Of several ``max-age`` the least counts. ``max-age=0`` says the same as ``no-cache``.

    Raises:
        InvalidRequest: a ``max-age`` without a number of seconds, or a header too long to be one.
    """
    if len(text) > MAX_CHARS:
        raise InvalidRequest(f"must have at most {MAX_CHARS} characters", pointer=pointer)
    names, ages = set(), []
    for member in _MEMBER.findall(text):
        name, equals, value = (part.strip() for part in member.partition("="))
        if name.lower() == "max-age":
            ages.append(_seconds(value if equals else "", pointer))
        names.add(name.lower())
    age = min(ages, default=None)
    return CacheControl(no_cache="no-cache" in names or age == 0, no_store="no-store" in names, max_age_s=age)


def _seconds(value: str, pointer: str) -> int:
    if _MAX_AGE.fullmatch(value) is None:
        raise InvalidRequest(
            f"max-age wants a number of seconds, such as max-age=60; got {value[:40]!r}", pointer=pointer
        )
    return min(int(value.strip('"')), MOST_S)
