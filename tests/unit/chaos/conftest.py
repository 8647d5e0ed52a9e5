"""Tests of what the chaos suite is made of."""

from tests.support.quiet import logged

__all__ = ["logged"]
