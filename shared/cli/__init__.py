"""The command ``forebay``."""

from importlib.metadata import entry_points

import typer

from shared.cli import cache, dead, demo, policy, requests, simulate, stack, topics

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
dead.register(app)
policy.register(app)
demo.register(app)
simulate.register(app)


def main() -> None:
    """Entry point. Services bring their own commands along, found by name: nothing here may import a service."""
    for command in sorted(entry_points(group="forebay.commands"), key=lambda found: found.name):
        command.load()(app)
    app()
