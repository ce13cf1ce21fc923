"""docs/settings.md names every setting, and no other."""

from __future__ import annotations

import re

import pytest

from tests.documents.reading import text_of
from tests.support.stack import ROOT

# The client of a training reads its settings itself, independent of the portal's settings.
READ_IN = (
    "monitor_site/settings.py",
    "monitor_site/environment/bucket.py",
    "monitor_site/environment/directory.py",
    "monitor_site/environment/sign_in.py",
    "steersman/run.py",
    "steersman/ranked_run.py",
)
TEXT = text_of("docs/settings.md")


@pytest.mark.parametrize("name", re.findall(r"^\| `(STEERSMAN_\w+)`", TEXT, re.MULTILINE))
def test_each_setting_of_the_table_exists(name: str):
    assert any(name in (ROOT / path).read_text() for path in READ_IN)


def test_the_table_names_every_setting():
    read = [ROOT / "monitor_site" / "settings.py", *(ROOT / "monitor_site" / "environment").glob("*.py")]
    settings = {name for path in read for name in re.findall(r'"(STEERSMAN_\w+)"', path.read_text())}
    internal = {"STEERSMAN_LAYER_PREFIX", "STEERSMAN_DEBUG"}
    assert settings - internal <= set(re.findall(r"`(STEERSMAN_\w+)`", TEXT))
