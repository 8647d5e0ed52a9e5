"""What the tests of shared have in common."""

from tests.support.quiet import logged

__all__ = ["logged"]
