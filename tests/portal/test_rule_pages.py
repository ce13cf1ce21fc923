"""Pages of rules: who sees and changes them, what trials show, and what they refuse."""

from __future__ import annotations

import math
import random
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from runs.alerts.rulebook import trials
from runs.alerts.rules import DEFAULT_RULES, Rule
from runs.models import AlertRule, Membership, Project, Role, Run, Series
from runs.portal.alerting.rules import shown
from runs.recording.alerts import UNTIL_CLEARED
from tests.support.stored_points import LOSS, store

pytestmark = pytest.mark.django_db
CHANCE = random.Random(1)
FALLING = [2.0 / (1 + step / 100) + CHANCE.gauss(0, 0.01) for step in range(600)]
PAST = [*FALLING[:500], math.nan, *FALLING[501:]]
GIVEN = {
    "series": "", "severity": "", "cool_down_s": "60", "is_on": "on", "tells": "on", "is_above": "yes", "limit": "5",
    "clear_at": "", "points": "1", "action": "", "knob": "", "factor": "", "smallest": "", "most_per_hour": "1",
    "most_per_attempt": "1", "dry_run": "on", "do": "save",
}  # fmt: skip


@pytest.fixture
def run() -> Run:
    project = Project.objects.create(name="Lab", slug="lab")
    for role in Role.values:
        Membership.objects.create(project=project, user=User.objects.create(username=role), role=role)
    made = Run.objects.create(project=project, name="first", last_point_at=timezone.now())
    store(made, PAST)
    return made


def as_(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(username=name))
    return client


def page(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return answer.content.decode()


def rows_of(client: Client, address: str) -> dict[str, Any]:
    return {row.rule.name: row for row in client.get(address).context["rows"]}


def test_viewers_read_and_change_nothing(run: Run) -> None:
    viewer = as_("viewer")
    for address in ("/projects/lab/rules/", f"/runs/{run.pk}/rules/"):
        text = page(viewer, address)
        assert "Not finite" in text and "Switch off" not in text and "rules/edit/" not in text
        assert viewer.get(f"{address}edit/?detector=spike").status_code == 403
        assert viewer.post(address, {"do": "off", "detector": "spike", "series": ""}).status_code == 403
    stranger = Client()
    stranger.force_login(User.objects.create(username="stranger"))
    for address in ("/projects/lab/rules/", f"/runs/{run.pk}/rules/", f"/runs/{run.pk}/rules/edit/?detector=spike"):
        assert stranger.get(address).status_code == 404


def test_defaults_are_shown_as_such_and_what_the_project_says_too(run: Run) -> None:
    AlertRule.objects.create(project=run.project, detector="spike")
    of_project, of_run = (rows_of(as_("viewer"), each) for each in ("/projects/lab/rules/", f"/runs/{run.pk}/rules/"))
    assert set(of_project) == set(of_run) == set(DEFAULT_RULES)
    assert (of_run["spike"].source, of_run["plateau"].source) == ("project", "default")
    assert of_project["spike"].is_own and not of_run["spike"].is_own
    text = page(as_("viewer"), f"/runs/{run.pk}/rules/")
    assert "from the project" in text and "default" in text


def test_each_says_how_often_it_would_have_fired_and_at_which_steps(run: Run) -> None:
    for address in (
        f"/runs/{run.pk}/rules/?try=1",
        "/projects/lab/rules/?try=1",
        f"/projects/lab/rules/?try=1&run={run.pk}",
    ):
        text = page(as_("viewer"), address)
        assert "would have fired 1 time: step 500" in text and "would not have fired" in text
        assert "Tried on 600 points of first" in text
    Run.objects.update(archived_at=timezone.now())
    assert "Tried on" not in page(as_("viewer"), "/projects/lab/rules/?try=1&run=x")


def test_no_past_is_judged_until_somebody_asks(
    run: Run, monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any
) -> None:
    """Otherwise the page would use a second of CPU time on every visit."""
    judged: list[int] = []
    monkeypatch.setattr(trials.Judge, "judge", lambda _, point: judged.append(point.step) or [])
    for number in range(30):
        made = Run.objects.create(project=run.project, name=f"run {number}", last_point_at=timezone.now())
        Series.objects.create(run=made, name=LOSS)
    viewer = as_("viewer")
    for address in (f"/runs/{run.pk}/rules/", "/projects/lab/rules/", f"/projects/lab/rules/?run={run.pk}"):
        with django_assert_max_num_queries(10):
            text = page(viewer, address)
        assert "have fired" not in text and "Tried on" not in text and "Try" in text
    assert not judged
    page(viewer, f"/projects/lab/rules/?try=1&run={run.pk}")
    assert len(judged) == 600


def test_rules_that_are_overridden_are_left_out() -> None:
    project, named = Rule("spike", id=1), Rule("spike", LOSS, id=2)
    own = Rule("spike", LOSS, id=3, of_run=True)
    found = [rule for rule in shown((project, named, own)) if rule.detector == "spike"]
    assert found == [project, own]
    found = [rule for rule in shown((named,)) if rule.detector == "spike"]
    assert found == [DEFAULT_RULES["spike"], named]


def test_an_operator_writes_edits_switches_and_deletes_a_rule(run: Run) -> None:
    operator = as_("operator")
    for place, owner in ((f"/runs/{run.pk}/rules/", run), ("/projects/lab/rules/", None)):
        assert "Limit" in page(operator, f"{place}edit/?detector=threshold&series=*/loss")
        answer = operator.post(f"{place}edit/?detector=threshold", GIVEN | {"series": "*/loss", "limit": "1.5"})
        assert answer.status_code == 302 and answer["Location"] == place
        rule = AlertRule.objects.get(run=owner)
        assert (rule.detector, rule.series, rule.limit, rule.is_above) == ("threshold", "*/loss", 1.5, True)
        assert rule.changed_by == User.objects.get(username="operator") and rule.project == run.project
        operator.post(f"{place}edit/?rule={rule.pk}", GIVEN | {"series": "*/loss", "limit": "2", "is_above": "no"})
        rule.refresh_from_db()
        assert (rule.limit, rule.is_above) == (2.0, False) and AlertRule.objects.filter(run=owner).count() == 1
        operator.post(place, {"do": "off", "detector": "threshold", "series": "*/loss"})
        rule.refresh_from_db()
        assert not rule.is_on and rule.limit == 2.0
        operator.post(place, {"do": "on", "detector": "threshold", "series": "*/loss"})
        rule.refresh_from_db()
        assert rule.is_on
        operator.post(place, {"do": "delete", "detector": "threshold", "series": "*/loss"})
        assert not AlertRule.objects.exists()


def test_switching_off_a_default_makes_a_rule_and_a_runs_rule_copies_that_of_the_project(run: Run) -> None:
    operator = as_("operator")
    operator.post("/projects/lab/rules/", {"do": "off", "detector": "plateau", "series": ""})
    rule = AlertRule.objects.get()
    assert (rule.detector, rule.run, rule.is_on, rule.tells) == ("plateau", None, False, False)
    AlertRule.objects.update(severity="critical")
    operator.post(f"/runs/{run.pk}/rules/", {"do": "on", "detector": "plateau", "series": ""})
    own = AlertRule.objects.get(run=run)
    assert own.is_on and own.severity == "critical"
    for detector, series in (("invented", ""), ("plateau", "invented"), ("", "")):
        operator.post(f"/runs/{run.pk}/rules/", {"do": "off", "detector": detector, "series": series})
    assert AlertRule.objects.count() == 2
    # The page of a run deletes only rules of the run.
    operator.post(f"/runs/{run.pk}/rules/", {"do": "delete", "detector": "plateau", "series": ""})
    assert list(AlertRule.objects.all()) == [rule]


def test_the_form_offers_the_series_and_knobs_that_runs_have(run: Run) -> None:
    names = ("blocks.10/loss", "blocks.2/loss", "<b>")
    for name in names:
        Series.objects.create(run=run, name=name)
    Run.objects.filter(pk=run.pk).update(
        knobs=[{"name": "learning_rate", "value": {"body": 0.1}}, {"name": "compile", "value": True}]
    )
    other = Run.objects.create(project=Project.objects.create(name="Other", slug="other"), last_point_at=timezone.now())
    Series.objects.create(run=other, name="of/others")
    new = Run.objects.create(project=run.project, name="new")
    operator = as_("operator")
    for place in ("/projects/lab/rules/", f"/runs/{run.pk}/rules/", f"/runs/{new.pk}/rules/"):
        offered = operator.get(f"{place}edit/?detector=spike").context["offered"]
        assert offered.series == ("<b>", "blocks.2/loss", "blocks.10/loss", LOSS)
        assert offered.knobs == ("learning_rate",)
        for address in (f"{place}edit/?detector=spike", place):
            text = page(operator, address)
            assert '<option value="blocks.2/loss">' in text and "&lt;b&gt;" in text and "of/others" not in text
    # The run's own series come before those of the project's other runs.
    Series.objects.create(run=new, name="mine")
    assert operator.get(f"/runs/{new.pk}/rules/").context["offered"].series == ("mine",)


def test_a_rule_about_what_no_run_has_is_stored_and_a_sentence_says_so(run: Run) -> None:
    operator, address = as_("operator"), "/projects/lab/rules/edit/?detector=spike"
    unheard = "No recent run has logged such a series"
    unknown = "No run has a numeric knob of this name"
    scaling = {"action": "scale_knob", "knob": "learning_rat", "factor": "0.5"}
    tried = operator.post(address, GIVEN | scaling | {"series": "trian/*", "do": "try"}).content.decode()
    assert unheard in tried and unknown in tried and "form-error" not in tried
    saved = operator.post(address, GIVEN | scaling | {"series": "trian/*"}, follow=True).content.decode()
    rule = AlertRule.objects.get()
    assert (rule.series, rule.knob) == ("trian/*", "learning_rat") and unheard in saved and unknown in saved
    assert rows_of(operator, "/projects/lab/rules/")["spike trian/*"].note.startswith(unheard)
    known = operator.post(f"/projects/lab/rules/edit/?rule={rule.pk}", GIVEN | {"series": "*/loss"}, follow=True)
    assert unheard not in known.content.decode()
    # The detectors read the step times of ranks, but the portal does not store them.
    assert unheard not in page(operator, "/projects/lab/rules/edit/?detector=rank-lag&series=rank/1/step_ms")


def test_a_rule_of_stalls_has_no_series(run: Run) -> None:
    address = "/projects/lab/rules/edit/?detector=stall&series=train/loss"
    assert "series" not in as_("operator").get(address).context["form"].fields
    assert as_("operator").post(address, GIVEN | {"series": "train/loss"}).status_code == 302
    assert AlertRule.objects.get().series == ""


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"limit": ""}, "limit"),
        ({"limit": "inf"}, "limit"),
        ({"clear_at": "6"}, "clear_at"),
        ({"clear_at": "4", "is_above": "no"}, "clear_at"),
        ({"points": "0"}, "points"),
        ({"cool_down_s": "-1"}, "cool_down_s"),
        ({"action": "scale_knob", "factor": "0.5"}, "knob"),
        ({"action": "scale_knob", "knob": "learning_rate"}, "factor"),
        ({"action": "scale_knob", "knob": "learning_rate", "factor": "0"}, "factor"),
        ({"action": "dance"}, "action"),
        ({"most_per_hour": "0"}, "most_per_hour"),
        ({"most_per_attempt": "0"}, "most_per_attempt"),
        ({"series": "taken"}, "series"),
    ],
)
def test_what_does_not_fit_together_is_refused(run: Run, changed: dict[str, str], field: str) -> None:
    AlertRule.objects.create(project=run.project, detector="threshold", series="taken")
    answer = as_("owner").post("/projects/lab/rules/edit/?detector=threshold", GIVEN | changed)
    assert answer.status_code == 422 and list(answer.context["form"].errors) == [field]
    assert AlertRule.objects.count() == 1


def test_a_rule_is_tried_on_the_past_before_it_is_stored(run: Run) -> None:
    form = GIVEN | {"do": "try", "limit": "1.9", "is_on": "", "cool_down_s": "0"}
    for address in (f"/runs/{run.pk}/rules/edit/", "/projects/lab/rules/edit/"):
        answer = as_("operator").post(f"{address}?detector=threshold", form)
        text = answer.content.decode()
        assert answer.status_code == 200 and "Would have fired" in text and answer.context["result"].fired
        assert text.count('class="cx-mark"') == len(answer.context["result"].fired)
    assert not AlertRule.objects.exists()


@pytest.mark.parametrize("query", ["", "?detector=dance", "?rule=x", "?rule=999999", "?rule=99999999999999999999"])
def test_what_is_no_rule_is_not_found(run: Run, query: str) -> None:
    assert as_("owner").get(f"/projects/lab/rules/edit/{query}").status_code == 404


def test_rules_of_others_are_not_edited_here(run: Run) -> None:
    other = Project.objects.create(name="Other", slug="other")
    rule = AlertRule.objects.create(project=other, detector="spike")
    assert as_("owner").get(f"/projects/lab/rules/edit/?rule={rule.pk}").status_code == 404
    of_run = AlertRule.objects.create(project=run.project, run=run, detector="spike")
    assert as_("owner").get(f"/projects/lab/rules/edit/?rule={of_run.pk}").status_code == 404
    assert as_("owner").get(f"/runs/{run.pk}/rules/edit/?rule={of_run.pk}").status_code == 200


def test_a_snooze_and_an_action_are_told(run: Run) -> None:
    rule = AlertRule.objects.create(
        project=run.project, run=run, detector="spike", snoozed_until=timezone.now() + timedelta(hours=1),
        action="scale_knob", knob="learning_rate", factor=0.5,
    )  # fmt: skip
    text = page(as_("viewer"), f"/runs/{run.pk}/rules/")
    assert f'snoozed until <time datetime="{rule.snoozed_until:%Y-%m-%dT%H:%M}' in text
    assert "scale a knob: learning_rate × 0.5 (dry run)" in text
    AlertRule.objects.update(snoozed_until=UNTIL_CLEARED)
    assert "snoozed until the alert is cleared" in page(as_("viewer"), f"/runs/{run.pk}/rules/")
    # Saving the rule keeps the snooze.
    saved = as_("owner").post(f"/runs/{run.pk}/rules/edit/?rule={rule.pk}", GIVEN)
    assert saved.status_code == 302 and AlertRule.objects.get().snoozed_until == UNTIL_CLEARED
    as_("owner").post(f"/runs/{run.pk}/rules/", {"do": "wake", "detector": "spike", "series": ""})
    assert AlertRule.objects.get().snoozed_until is None


def test_projects_and_runs_lead_to_their_rules(run: Run) -> None:
    assert 'href="/projects/lab/rules/"' in page(as_("viewer"), "/projects/")
    assert f'href="/runs/{run.pk}/rules/"' in page(as_("viewer"), f"/runs/{run.pk}/")
