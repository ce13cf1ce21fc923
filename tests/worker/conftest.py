"""The training that steered trainings are compared with."""

from __future__ import annotations

import pytest

from tests.support.steered import Steered, steerable


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """The losses of a training without commands."""
    return Steered(tmp_path_factory.mktemp("plain"), steerable()).train().series()
