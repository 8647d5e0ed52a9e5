"""What the commands print on: prompts, answers, headers and bodies are strangers' words, and none steers a terminal."""

import re
from collections.abc import Iterable
from typing import Any, Final

from rich import console
from rich.segment import Segment
from rich.text import Text

# All of C0 but tab and newline (of either kind: rich leaves out the CR of one), DEL and C1; what turns the direction of
# writing; halves of surrogate pairs, which no encoding can print.
_UNPRINTABLE: Final = re.compile(
    r"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


class Console(console.Console):
    r"""Shows control characters in text as JSON writes them (so JSON stays the same): ESC is ``\u001b``."""

    def render_str(self, text: str, **options: Any) -> Text:
        """As rich does; written out before it is laid out, so that columns keep their widths."""
        return super().render_str(printable(text), **options)

    def render(
        self, renderable: console.RenderableType, options: console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """As rich does, for what was no string; its own codes, which move the cursor for a progress bar, stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def printable(text: str) -> str:
    """The text without what a terminal would obey."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
