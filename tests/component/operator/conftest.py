"""Fixtures that these tests share with the pure ones."""

from tests.unit.conftest import render_helper

__all__ = ["render_helper"]
