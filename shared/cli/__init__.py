"""The command ``forebay``.

A service brings commands of its own by an entry point of the group ``forebay.commands``: a function that adds them.
"""

from importlib.metadata import entry_points

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
for point in entry_points(group="forebay.commands"):
    point.load()(app)


def main() -> None:
    """Entry point."""
    app()
