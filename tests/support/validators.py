"""Validators as an operator would write them."""

import asyncio

from shared.events import Request


def says_yes(request: Request, text: str) -> bool:
    """Whether the answer is yes."""
    return text == "yes"


async def never_says(request: Request, text: str) -> bool:
    """Never returns."""
    await asyncio.Event().wait()
    return True
