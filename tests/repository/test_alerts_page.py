"""docs/alerts.md lists every detector with the severity and the notifications of the code."""

from __future__ import annotations

import re

import pytest

from runs.alerts.detectors import growth, limits, losses, overfitting, pace, spikes
from runs.alerts.rules import DEFAULT_RULES
from runs.recording.state_alerts import SEVERITIES
from tests.support.stack import ROOT

TEXT = (ROOT / "docs" / "alerts.md").read_text()
FOUND = TEXT.partition("\n## What is detected\n")[2].partition("\n## ")[0]
CLASSES = (losses.NonFinite, losses.Divergence, losses.Plateau, overfitting.Overfitting, pace.Stall, pace.Throughput,
           pace.RankLag, growth.WeightGrowth)  # fmt: skip


def documented() -> dict[str, str]:
    rows = [line.strip("| ").split(" | ") for line in FOUND.splitlines() if line.startswith("| `")]
    return {name: severity for names, severity, _ in rows for name in re.findall(r"`([\w-]+)`", names)}


def test_each_detector_has_a_row_and_no_other_is_named():
    assert documented().keys() == DEFAULT_RULES.keys()


@pytest.mark.parametrize("detector", [*CLASSES, spikes.Spike(), limits.Limit("data-bound", limits.DATA_BOUND)])
def test_severities_are_those_of_the_detectors(detector):
    assert documented()[detector.name] == detector.severity


def test_severities_of_a_runs_state_are_those_of_its_alerts():
    assert SEVERITIES.items() <= documented().items()


def test_it_says_which_alerts_are_on_the_page_alone():
    silent = {name for name, rule in DEFAULT_RULES.items() if not rule.tells}
    sentence = re.search(r"Alerts of ([^.]+) only\s+appear on the page", TEXT)
    assert sentence and set(re.findall(r"`([\w-]+)`", sentence[1])) == silent
