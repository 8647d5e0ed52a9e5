"""A program of the stack: what to run, how to see that it is ready, how to stop it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

# Every process of a stack carries these, so that it is found again also when its supervisor is gone.
HOME_MARK = "FOREBAY_STACK_HOME"
PROGRAM_MARK = "FOREBAY_STACK_PROGRAM"

INFRASTRUCTURE = ("rabbitmq", "postgres", "model")


@dataclass(frozen=True)
class Program:
    """One process under the supervisor."""

    name: str
    command: tuple[str, ...]
    port: int
    ready: Callable[[], bool]
    prepare: Callable[[], object] | None = None
    """What must be done before it can start; takes seconds, so that others start first."""
    env: Mapping[str, str] = field(default_factory=dict)
    clean_env: bool = False
    """Whether ``env`` is all it gets, and nothing of the caller's environment."""
    stop_signal: str = "TERM"
    stop_wait_s: int = 20
    """Seconds from the stop signal until it is killed."""
    settle_s: int = 1
    """Seconds a start must last to count; shorter ones are retried ever more slowly, then given up."""
    priority: int = 100
    """Lower starts earlier and stops later, where the supervisor itself decides."""

    def full_command(self, home: str) -> list[str]:
        """The command with its environment in front, as arguments of ``env``, which then becomes the program."""
        marks = {HOME_MARK: home, PROGRAM_MARK: self.name}
        pairs = [f"{name}={value}" for name, value in {**self.env, **marks}.items()]
        return ["/usr/bin/env", *(["-i"] if self.clean_env else []), *pairs, *self.command]
