"""Fixtures of the tests of a script's run."""

from tests.steersman.client.running import cuda, run

__all__ = ["cuda", "run"]
