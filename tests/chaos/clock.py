"""A service whose wall clock can jump: ``python -m tests.chaos.clock SERVICE``.

The product has one clock (``shared.clock``); here its wall time is that of the machine plus the seconds in a file,
which may change at any moment. Durations are measured by the monotonic clock, which no machine lets jump.
"""

import os
import runpy
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from shared.clock import SystemClock

FILE: Final = "FOREBAY_CHAOS_CLOCK"


def jump(file: Path, seconds: float) -> None:
    """Let the clocks that follow this file be so far from the machine's."""
    draft = file.with_suffix(".draft")
    draft.write_text(str(seconds))
    draft.replace(file)


def shifted(file: Path) -> datetime:
    """The time as this file has it, in UTC."""
    return datetime.now(UTC) + timedelta(seconds=float(file.read_text()))


def main() -> None:
    """Become the service."""
    file = Path(os.environ[FILE])
    setattr(SystemClock, "now", lambda _: shifted(file))  # noqa: B010 - to mypy it is no attribute to assign to
    sys.argv = sys.argv[1:]
    runpy.run_module(f"services.{sys.argv[0]}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
