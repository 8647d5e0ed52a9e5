"""Tests of the simulated provider."""

from tests.support.quiet import logged

__all__ = ["logged"]
