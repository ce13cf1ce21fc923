"""A stack whose project has members and no destinations yet; each test gets a fresh project."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stack import Stack, seed_stack
from tests.support.telling.fake_senders import make_certificate


@pytest.fixture
def lab() -> Iterator[Stack]:
    with Stack() as bare:
        seed_stack(bare)
        yield bare


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("certificate"))
