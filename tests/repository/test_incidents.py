"""docs/operations.md has an incident for each Prometheus alert, and the tests, commands and settings it names exist."""

from __future__ import annotations

import re

import pytest
import yaml
from django.core.management import get_commands

from tests.support.stack import ROOT

TEXT = (ROOT / "docs" / "operations.md").read_text()
INCIDENTS = TEXT.partition("\n## Incidents\n")[2].partition("\n## ")[0]
RULES = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())["groups"][0]["rules"]
PATHS = sorted(set(re.findall(r"`((?:tests|bench|deploy)/[\w./-]+)", TEXT)))
SETTINGS = sorted(set(re.findall(r"STEERSMAN_[A-Z_]+", TEXT)))
# Where settings are defined, including those that compose and trainings read.
SOURCES = [*(ROOT / "monitor_site").rglob("*.py"), *(ROOT / "steersman").rglob("*.py")]


def test_each_alert_of_prometheus_has_an_incident_and_no_other_is_named():
    assert set(re.findall(r"`(Steersman\w+)`", INCIDENTS)) == {rule["alert"] for rule in RULES}


def test_each_incident_has_a_symptom_and_a_cure():
    rows = [line.strip("|").split("|") for line in INCIDENTS.splitlines() if line.startswith("| ")]
    assert len(rows) > 25
    assert all(len(row) == 3 and row[0].strip() and row[2].strip() for row in rows)


@pytest.mark.parametrize("path", PATHS)
def test_each_file_is_there(path: str):
    assert (ROOT / path).exists()


def test_the_security_model_names_a_test_in_each_row():
    model = TEXT.partition("\n## Security model\n")[2].partition("Not defended")[0]
    rows = [line for line in model.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15 and all("`tests/" in row.rpartition(" | ")[2] for row in rows)


def test_each_command_is_one():
    named = set(re.findall(r"python manage\.py (\w+)", TEXT))
    assert {"backup", "restore", "verify", "doctor"} <= named <= get_commands().keys()


@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_is_read_somewhere(name: str):
    assert any(f'"{name}"' in path.read_text() for path in SOURCES)
