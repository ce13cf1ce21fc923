"""Which rule applies, by default and if several match, and how a training's judge applies them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runs.alerts.detectors.judge import Judge
from runs.alerts.rules import DEFAULT_RULES, Rule, rule_for
from runs.alerts.titles import TITLES
from steersman.agent.reporting.redacted_records import SeriesNames
from tests.alerts.test_judging import LOSS, NOW, REDACTOR, Told, judged, losses
from trainer.alerts.judging import RunJudge

NAN = float("nan")


def judge_of(*rules: Rule, judge: Judge | None = None) -> RunJudge:
    return RunJudge(SeriesNames(REDACTOR), judge, rules)


def test_every_detector_has_a_title_and_a_default() -> None:
    assert set(DEFAULT_RULES) == set(TITLES)
    assert all(rule.is_on and not rule.action and rule.id is None for rule in DEFAULT_RULES.values())


PROJECT, NAMED, RUN = Rule("spike", id=1), Rule("spike", "*loss", id=2), Rule("spike", id=3, of_run=True)
EXACT, RUN_NAMED = Rule("spike", LOSS, id=4), Rule("spike", "train/*", id=5, of_run=True)


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ((), DEFAULT_RULES["spike"]),
        ((PROJECT,), PROJECT),
        ((PROJECT, NAMED), NAMED),
        ((EXACT, NAMED), EXACT),
        ((NAMED, replace(NAMED, series="tr*loss", id=6)), replace(NAMED, series="tr*loss", id=6)),
        ((EXACT, RUN), RUN),
        ((RUN, RUN_NAMED), RUN_NAMED),
        ((Rule("plateau", id=7), Rule("spike", "validation/*", id=8)), DEFAULT_RULES["spike"]),
        # The text of a series is literal except for the star.
        ((replace(NAMED, series="train.loss"),), DEFAULT_RULES["spike"]),
    ],
)
def test_the_rule_of_the_run_comes_first_and_one_that_names_series(rules: tuple[Rule, ...], wanted: Rule) -> None:
    assert rule_for(rules, "spike", LOSS, NOW) == wanted
    assert rule_for(reversed(rules), "spike", LOSS, NOW) == wanted


def test_a_snooze_ends_by_itself() -> None:
    snoozed = Rule("spike", snoozed_until=NOW + 60, id=1)
    assert rule_for([snoozed], "spike", LOSS, NOW + 59) == snoozed and snoozed.is_snoozed(NOW + 59)
    assert rule_for([snoozed], "spike", LOSS, NOW + 60) == replace(snoozed, snoozed_until=None)


def test_severity_telling_and_action_are_those_of_the_rule() -> None:
    (plain,) = judged(judge_of(), losses(NAN))
    assert (plain.severity, plain.is_told, plain.action, plain.rule_id) == ("critical", True, "", None)
    rule = Rule("non-finite", severity="info", tells=False, action="pause", id=7)
    (finding,) = judged(judge_of(rule), losses(NAN))
    assert (finding.severity, finding.is_told, finding.action, finding.rule_id) == ("info", False, "pause", 7)


def test_who_is_snoozed_or_late_is_recorded_and_does_nothing() -> None:
    rule = Rule("non-finite", action="stop", id=7)
    (snoozed,) = judged(judge_of(replace(rule, snoozed_until=NOW + 60)), losses(NAN))
    assert (snoozed.action, snoozed.is_told, snoozed.rule_id) == ("", False, 7)
    (awake,) = judged(judge_of(replace(rule, snoozed_until=NOW - 1)), losses(NAN))
    assert (awake.action, awake.is_told) == ("stop", True)
    (late,) = judged(judge_of(rule), losses(NAN), NOW + 61)
    assert late.late and late.action == ""


def test_what_is_off_makes_no_alert_and_ends_one() -> None:
    off = Rule("spike", is_on=False, id=7)
    assert judged(judge_of(off, judge=Told()), losses(-1.0)) == []
    judge = judge_of(judge=Told())
    assert len(judged(judge, losses(-1.0))) == 1 and judge.over() == []
    judge.obey([off])
    assert judge.over() == [("spike", LOSS)]


def test_a_cool_down_is_that_of_the_rule() -> None:
    found: list[Any] = []
    judge = judge_of(Rule("spike", cool_down_s=10.0, id=7), judge=Told())
    for second in range(20):
        found += judged(judge, losses(-1.0 if second % 2 == 0 else 1.0, first=second, began=NOW + second))
        judge.over()
    assert [finding.step for finding in found] == [0, 10]


def test_a_limit_holds_for_the_series_that_its_pattern_matches() -> None:
    limit = Rule("threshold", "train/*", limit=5.0, clear_at=4.0, points=2, id=7)
    judge = judge_of(limit)
    assert judged(judge, losses(6.0)) == []
    (finding,) = judged(judge, losses(6.0, first=2, began=NOW + 1))
    assert (finding.detector, finding.series, finding.value, finding.rule_id) == ("threshold", LOSS, 6.0, 7)
    assert judged(judge_of(replace(limit, series="validation/*")), losses(6.0, 6.0)) == []
    # Without a limit, the threshold detector has nothing to judge.
    assert judged(judge_of(Rule("threshold", id=7)), losses(6.0, 6.0)) == []


def test_a_limit_that_is_edited_holds_from_the_next_point() -> None:
    judge = judge_of()
    assert judged(judge, losses(6.0)) == []
    limit = Rule("threshold", limit=5.0, id=7)
    judge.obey([limit])
    assert [each.detector for each in judged(judge, losses(6.0, first=2, began=NOW + 1))] == ["threshold"]
    # The same rules again end nothing; another limit does.
    judge.obey([limit])
    assert judge.over() == []
    judge.obey([replace(limit, limit=7.0)])
    assert judge.over() == [("threshold", LOSS)]
    judge.obey([replace(limit, is_on=False)])
    assert judged(judge, losses(6.0, 8.0, first=3, began=NOW + 100)) == []


@pytest.mark.parametrize(
    ("pattern", "series", "wanted"),
    [
        ("*", "", True),
        ("a*", "a", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*b*", "abc", True),
        ("a*b*c", "a/b/c", True),
        ("a*b*c", "a/c/b", False),
        ("ab*bc", "abc", False),
        ("*a*a*", "a", False),
        ("a.*", "ab", False),
        ("*\n", "a\n", True),
    ],
)
def test_a_star_stands_for_any_text(pattern: str, series: str, wanted: bool) -> None:
    assert Rule("spike", pattern).matches("spike", series) is wanted


def test_many_stars_cost_as_little_as_one() -> None:
    """With a regular expression this would take practically for ever, in the process that judges all series."""
    assert not Rule("spike", "*a" * 99 + "*b").matches("spike", "a" * 200)
