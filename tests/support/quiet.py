"""Tests that are quick and steady: logs are kept instead of printed, and a busy machine fails no property.

Drawing a traceback takes longer than most tests, and hypothesis has a deadline for each example unless told otherwise.
"""

from collections.abc import Iterator

import pytest
from hypothesis import settings
from structlog.testing import capture_logs
from structlog.typing import EventDict

settings.register_profile("steady", deadline=None)
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[EventDict]]:
    """What was logged during the test."""
    with capture_logs() as lines:
        yield lines
