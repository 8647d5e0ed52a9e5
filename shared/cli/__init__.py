"""The command ``forebay``."""

import typer

from shared.cli import cache, demo, requests, stack, topics

app = typer.Typer(
    name="forebay",
    help="The pool in front of the turbines: a surge of LLM requests in, a steady flow out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
stack.register(app)
requests.register(app)
cache.register(app)
topics.register(app)
demo.register(app)


def main() -> None:
    """Entry point."""
    app()
