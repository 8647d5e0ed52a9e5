"""What the tests of the services have in common."""

from tests.support.quiet import logged

__all__ = ["logged"]
