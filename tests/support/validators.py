"""Validators as an operator would write them."""

from shared.events import Request


def says_yes(request: Request, text: str) -> bool:
    """Whether the answer is yes."""
    return text == "yes"
