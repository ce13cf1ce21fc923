"""docs/contributing.md: every file and folder that it names exists, and every name in capitals is defined there."""

from __future__ import annotations

import re

import pytest

from tests import layout
from tests.support.stack import ROOT

TEXT = (ROOT / "docs" / "contributing.md").read_text()
CODE = re.findall(r"`([^`\n]+)`", TEXT)
# Tests and commands write into build/.
PATHS = sorted({each for each in CODE if re.fullmatch(r"[\w./-]+/[\w.-]*", each) and not each.startswith("build/")})
CONSTANTS = sorted({each for each in CODE if re.fullmatch(r"[A-Z][A-Z_]+", each)})


def test_it_names_enough_to_be_worth_testing():
    assert len(PATHS) > 40 and CONSTANTS


@pytest.mark.parametrize("path", PATHS)
def test_each_path_is_there(path: str):
    assert (ROOT / path).exists() or path == "management/commands/"


@pytest.mark.parametrize("name", CONSTANTS)
def test_each_constant_is_defined(name: str):
    defined = re.compile(rf"^\s*{name}\b.* = ", re.MULTILINE)
    files = [*layout.modules().values(), *(ROOT / "tests").rglob("*.py")]
    assert any(defined.search(path.read_text()) for path in files)
