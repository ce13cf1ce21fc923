"""Alerts of a run: rows and events match, only for the attempt that holds the run; and who may read them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from django.utils.html import escape

from runs.access.tokens import create_token
from runs.alerts.wording.texts import texts_of
from runs.live.snapshot import lasting_alerts
from runs.models import Alert, AlertRule, Membership, Project, Run, StoredEvent
from runs.recording import alerts
from runs.recording.alerts import Finding
from runs.recording.lifecycle import AttemptEnd, Holder, Lease, end_attempt, open_attempt

pytestmark = pytest.mark.django_db
NOW = timezone.now()


@pytest.fixture
def lease() -> Lease:
    project = Project.objects.create(name="Lab", slug="lab")
    for name in ("viewer", "operator"):
        Membership.objects.create(project=project, user=User.objects.create(username=name), role=name)
    run = Run.objects.create(project=project, name="first")
    return open_attempt(run.pk, Holder("gpu-host", "boot", 1), 0, command_line=[])


def begin(lease: Lease, detector: str = "spike", **fields: Any) -> Alert:
    found = {"severity": "warning", "title": "Spike", "began_at": NOW} | fields
    alert = alerts.begin(lease.run_id, lease.number, Finding(detector=detector, **found))
    assert alert is not None
    return alert


def told(run_id: int) -> list[dict[str, Any]]:
    frames = StoredEvent.objects.filter(run_id=run_id, kind="alert").order_by("seq").values_list("frame", flat=True)
    return [json.loads(frame) for frame in frames]


def test_row_and_event_say_the_same(lease: Lease) -> None:
    ada = User.objects.get(username="operator")
    alert = begin(lease, series="train/loss", step=7, nonfinite="nan", usual="0.31 ± 0.02", late=True)
    assert alerts.acknowledge(lease.run_id, alert.pk, ada.pk, "Ada")
    assert not alerts.acknowledge(lease.run_id, alert.pk, ada.pk, "Ada")
    assert alerts.clear(lease.run_id, lease.number, alert.pk, 9)
    assert not alerts.clear(lease.run_id, lease.number, alert.pk, 10)
    first, second, third = told(lease.run_id)
    assert (first["state"], first["step"], first["value"], first["nonfinite"]) == ("open", 7, None, "nan")
    assert first["late"] and first["usual"] == "0.31 ± 0.02" and first["attempt"] == lease.number
    assert (second["state"], second["by"]) == ("acknowledged", "Ada") and second["acknowledged_at"]
    assert (third["state"], third["by"], third["cleared_step"]) == ("cleared", "Ada", 9) and third["cleared_at"]
    alert.refresh_from_db()
    assert (alert.state, alert.acknowledged_by) == ("cleared", ada)


def test_who_was_overtaken_writes_nothing(lease: Lease) -> None:
    alert = begin(lease)
    newer = open_attempt(lease.run_id, Holder("other-host", "boot", 1), lease.number, command_line=[])
    before = len(told(lease.run_id))
    assert alerts.begin(lease.run_id, lease.number, Finding("spike", "warning", "Spike", NOW)) is None
    assert not alerts.clear(lease.run_id, lease.number, alert.pk)
    assert len(told(lease.run_id)) == before
    end_attempt(newer, AttemptEnd("finished"))
    assert alerts.begin(lease.run_id, newer.number, Finding("spike", "warning", "Spike", NOW)) is None


@pytest.mark.parametrize("ends", ["end", "overtaken"])
def test_there_is_room_for_so_many_of_an_attempt_and_the_console_counts_the_others(
    lease: Lease, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "MOST_OF_CODE", 1)
    monkeypatch.setattr(alerts, "MOST_OF_DETECTORS", 2)
    begin(lease, detector="code")
    begin(lease)
    has_room = [alerts.has_room(lease.run_id, lease.number, detector) for detector in ("code", "spike", "plateau")]
    assert has_room == [False, True, True]
    begin(lease, detector="plateau")
    assert not alerts.has_room(lease.run_id, lease.number, "spike")
    alerts.leave_out(lease.run_id, lease.number, 3)
    if ends == "end":
        end_attempt(lease, AttemptEnd("failed"))
    newer = open_attempt(lease.run_id, Holder("other-host", "boot", 1), lease.number, command_line=[])
    assert alerts.has_room(lease.run_id, newer.number, "code")
    end_attempt(newer, AttemptEnd("finished"))
    frames = StoredEvent.objects.filter(run_id=lease.run_id, kind="log").values_list("frame", flat=True)
    (line,) = [(event["attempt"], line["text"]) for event in map(json.loads, frames) for line in event["lines"]]
    assert line == (lease.number, "3 more alerts were not recorded.")


@pytest.mark.parametrize("ends", ["end", "overtaken"])
def test_the_end_of_an_attempt_clears_what_detectors_found(lease: Lease, ends: str) -> None:
    begin(lease)
    begin(lease, detector="code", title="The data are odd")
    if ends == "end":
        end_attempt(lease, AttemptEnd("finished"))
    else:
        open_attempt(lease.run_id, Holder("other-host", "boot", 1), lease.number, command_line=[])
    states = dict(Alert.objects.values_list("detector", "state"))
    assert states == {"spike": "cleared", "code": "open"}
    assert told(lease.run_id)[-1]["state"] == "cleared"


def test_members_read_them_newest_first(lease: Lease) -> None:
    begin(lease)
    newest = begin(lease, severity="critical", title="Not finite", step=3)
    client = Client()
    client.force_login(User.objects.get(username="viewer"))
    address = f"/api/runs/{lease.run_id}/alerts/"
    listed = client.get(address).json()
    assert listed["count"] == 2 and [item["title"] for item in listed["items"]] == ["Not finite", "Spike"]
    alerts.clear(lease.run_id, lease.number, newest.pk, 5)
    assert [item["title"] for item in client.get(f"{address}?state=open").json()["items"]] == ["Spike"]
    (cleared,) = client.get(f"{address}?severity=critical").json()["items"]
    assert (cleared["state"], cleared["cleared_step"]) == ("cleared", 5)
    assert lasting_alerts(Run.objects.get()) == {"info": 0, "warning": 1, "critical": 0}
    past = client.get(f"/api/runs/{lease.run_id}/history/").json()["alerts"]
    assert [alert["title"] for alert in past] == ["Spike", "Not finite"]


def logged_in(name: str) -> Client:
    client = Client(enforce_csrf_checks=True, headers={"X-CSRFToken": "c" * 32})
    client.force_login(User.objects.get(username=name))
    client.cookies["steersman_csrf"] = "c" * 32
    return client


def bearer(lease: Lease, scope: str) -> Client:
    run = Run.objects.select_related("project").get(pk=lease.run_id)
    creator = User.objects.get(username="operator")
    _, key = create_token(creator, run.project, scope, name="n" * 90, run=run if scope == "share" else None)
    return Client(headers={"Authorization": f"Bearer {key}"}, enforce_csrf_checks=True)


def test_who_may_command_acknowledges_and_once(lease: Lease) -> None:
    User.objects.filter(username="operator").update(first_name="Ada", last_name="L" * 100)
    first, second, other = begin(lease), begin(lease, series="x"), begin(lease, series="y")
    for who, alert in ((logged_in("operator"), first), (bearer(lease, "command"), second)):
        address = f"/api/runs/{lease.run_id}/alerts/{alert.pk}/acknowledge/"
        answer = who.post(address, "{}", content_type="application/json")
        assert answer.status_code == 200, answer.content
        assert (answer.json()["id"], answer.json()["state"]) == (alert.pk, "acknowledged")
        assert answer.json()["by"].startswith("Ada L")
        assert len(answer.json()["by"]) <= 150
        assert logged_in("operator").post(address).json() == answer.json()
    alerts.clear(lease.run_id, lease.number, other.pk)
    cleared = logged_in("operator").post(f"/api/runs/{lease.run_id}/alerts/{other.pk}/acknowledge/").json()
    assert (cleared["state"], cleared["by"]) == ("cleared", "")
    assert [event["id"] for event in told(lease.run_id) if event["state"] == "acknowledged"] == [first.pk, second.pk]
    first.refresh_from_db()
    assert first.acknowledged_by == User.objects.get(username="operator")


@pytest.mark.parametrize("who", ["viewer", "view", "share", "stranger", "nobody", "forged"])
def test_nobody_else_acknowledges(lease: Lease, who: str) -> None:
    alert = begin(lease)
    User.objects.create(username="stranger")
    client = Client()
    if who in ("view", "share"):
        client = bearer(lease, who)
    elif who == "forged":
        client = Client(enforce_csrf_checks=True)
        client.force_login(User.objects.get(username="operator"))
    elif who != "nobody":
        client = logged_in(who)
    answer = client.post(f"/api/runs/{lease.run_id}/alerts/{alert.pk}/acknowledge/")
    assert answer.status_code == {"stranger": 404, "nobody": 401}.get(who, 403) and answer.json()["error"]
    alert.refresh_from_db()
    assert alert.state == "open"


def test_an_alert_is_acknowledged_by_those_of_its_run(lease: Lease) -> None:
    alert = begin(lease)
    other = Run.objects.create(project=Project.objects.create(name="Other", slug="other"), name="other")
    Membership.objects.create(project=other.project, user=User.objects.get(username="viewer"), role="owner")
    answer = logged_in("viewer").post(f"/api/runs/{other.pk}/alerts/{alert.pk}/acknowledge/")
    assert (answer.status_code, answer.json()["field"]) == (404, "id")
    alert.refresh_from_db()
    assert alert.state == "open"


def test_the_admin_shows_them_and_changes_none(lease: Lease, admin_client: Client) -> None:
    alert = begin(lease, title="Loss is not finite", severity="critical")
    page = admin_client.get(f"/admin/runs/alert/?run__id__exact={lease.run_id}").content.decode()
    # In the reader's language, from the stored cause.
    title = texts_of(alert).title
    assert escape(title) in page and "critical" in page
    assert (
        f"/admin/runs/alert/?run__id__exact={lease.run_id}"
        in admin_client.get(f"/admin/runs/run/{lease.run_id}/change/").content.decode()
    )
    assert admin_client.post(f"/admin/runs/alert/{alert.pk}/change/", {"title": "x"}).status_code == 403
    assert admin_client.post(f"/admin/runs/alert/{alert.pk}/delete/", {"post": "yes"}).status_code == 403


def snoozed(lease: Lease, alert: Alert, name: str, hours: Any) -> Any:
    client = Client()
    client.force_login(User.objects.get(username=name))
    address = f"/api/runs/{lease.run_id}/alerts/{alert.pk}/snooze/"
    return client.post(address, json.dumps({"hours": hours}), content_type="application/json")


def test_a_snooze_is_a_rule_of_the_run_that_otherwise_says_what_held(lease: Lease) -> None:
    alert = begin(lease, series="train/loss")
    run = Run.objects.get(pk=lease.run_id)
    AlertRule.objects.create(project=run.project, detector="spike", severity="critical", cool_down_s=7)
    assert snoozed(lease, alert, "viewer", 1).status_code == 403
    answer = snoozed(lease, alert, "operator", 8)
    assert answer.status_code == 200 and answer.json()["id"] == alert.pk
    rule = AlertRule.objects.get(run=run)
    assert (rule.detector, rule.series, rule.severity, rule.cool_down_s) == ("spike", "train/loss", "critical", 7)
    assert rule.changed_by == User.objects.get(username="operator") and rule.project == run.project
    assert rule.snoozed_until is not None
    assert 7.9 * 3600 < (rule.snoozed_until - timezone.now()).total_seconds() <= 8 * 3600
    # The next one changes this rule, to last until the alert clears.
    assert snoozed(lease, alert, "operator", None).status_code == 200
    rule = AlertRule.objects.get(run=run)
    assert rule.snoozed_until == alerts.UNTIL_CLEARED
    assert alerts.clear(lease.run_id, lease.number, alert.pk)
    rule.refresh_from_db()
    assert rule.snoozed_until is None


def test_what_cannot_be_snoozed_says_why(lease: Lease) -> None:
    by_code, over = begin(lease, "code"), begin(lease)
    alerts.clear(lease.run_id, lease.number, over.pk)
    for alert, hours, field in ((by_code, 1, "id"), (over, None, "hours"), (over, 0, "hours"), (over, 1e9, "hours")):
        answer = snoozed(lease, alert, "operator", hours)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert not AlertRule.objects.exists()
    assert snoozed(lease, over, "operator", 1).status_code == 200


def test_who_acknowledges_is_named_by_the_login_too_where_the_name_is_anothers(lease: Lease) -> None:
    """The page shows the name in the same form as for authors of commands."""
    operator = User.objects.get(username="operator")
    operator.first_name = "Viewer"
    operator.save()
    alert = begin(lease)
    answer = logged_in("operator").post(f"/api/runs/{lease.run_id}/alerts/{alert.pk}/acknowledge/")
    assert answer.json()["by"] == "Viewer (operator)"
