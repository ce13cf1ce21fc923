"""Links in messages: opening one only shows a page; the button acts once, and only for permitted people."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from runs.access.tokens import create_token
from runs.alerts.sending import links
from runs.models import (
    Alert,
    AlertDestination,
    AlertRule,
    AlertState,
    Command,
    Membership,
    Project,
    Role,
    RuleAction,
    Run,
    RunState,
    TokenScope,
    UsedAlertLink,
)
from runs.portal.alerting import acting
from steersman.knobs import Knob
from steersman.spec import ValueSpec

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
BASE = "http://testserver"


@pytest.fixture
def project() -> Project:
    project = Project.objects.create(name="Digits", slug="digits")
    for role in Role.values:
        user = User.objects.create_user(role, first_name=role.title())
        Membership.objects.create(project=project, user=user, role=role)
    User.objects.create_user("stranger")
    return project


@pytest.fixture
def alert(project: Project) -> Alert:
    knobs = [
        Knob(ValueSpec("width", "int"), 4).to_wire(),
        Knob(ValueSpec("learning_rate", "float"), 0.1).to_wire(),
    ]
    run = Run.objects.create(
        project=project, name="night", state=RunState.RUNNING, attempt=1, knobs=knobs,
        handled_commands=["save_checkpoint"],
    )  # fmt: skip
    run.attempts.create(number=1, host="h", boot_id="b", supervisor_pid=1, started_at=timezone.now())
    return Alert.objects.create(
        run=run, attempt=1, detector="spike", series="train/loss", severity="critical", title="Spike", step=40,
        began_at=timezone.now(),
    )  # fmt: skip


@pytest.fixture
def destination(project: Project) -> AlertDestination:
    return AlertDestination.objects.create(
        project=project, name="on call", secret="sealed", person=User.objects.get(username="operator")
    )


Link = Callable[..., str]


@pytest.fixture
def link(alert: Alert, destination: AlertDestination) -> Link:
    def make(action: str = "pause", lifetime: timedelta = DAY) -> str:
        address = links.action_link(BASE, alert.pk, action, destination.person_id, destination.pk, lifetime)
        return address.removeprefix(BASE)

    return make


def signed_in(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(username=name))
    return client


def nonce_of(page: Any) -> str:
    found = re.search(r'name="nonce" value="([^"]+)"', page.content.decode())
    assert found, page.content.decode()
    return found[1]


def press(client: Client, address: str) -> Any:
    """Open a link as a browser does, and press the button of its page."""
    return client.post(address, {"nonce": nonce_of(client.get(address))})


def nothing_happened() -> bool:
    return not (
        Command.objects.exists()
        or UsedAlertLink.objects.exists()
        or Alert.objects.exclude(state=AlertState.OPEN).exists()
    )


def test_it_shows_what_would_be_done_and_for_whom(link: Link) -> None:
    page = Client().get(link("stop")).content.decode()
    for said in (
        "Stop the run",
        "night",
        "Digits",
        "Spike",
        "train/loss",
        "step 40",
        "Operator",
        "Nothing has been done yet",
    ):
        assert said in page
    assert nothing_happened()


def test_it_shows_where_the_knob_stands_and_what_the_rule_did(link: Link, alert: Alert) -> None:
    assert "learning_rate = 0.1" not in Client().get(link("stop")).content.decode()
    page = Client().get(link("halve")).content.decode()
    assert "learning_rate = 0.1" in page and "Its rule" not in page
    asked = {"action": "scale_knob", "action_state": "asked", "action_text": "learning_rate × 0.5"}
    Alert.objects.filter(pk=alert.pk).update(**asked)
    assert "Action of the rule: scale a knob, learning_rate × 0.5" in Client().get(link("halve")).content.decode()
    assert nothing_happened()


def test_it_rolls_back_to_the_last_good_checkpoint_and_halves_the_rate(link: Link, alert: Alert) -> None:
    Run.objects.update(handled_commands=["roll_back"])
    address = link("roll_back")
    assert "no good checkpoint before the alert" in Client().get(address).content.decode()
    saved = {"attempt": 1, "epoch": 1, "size_bytes": 1, "sha256": "0" * 64, "created_at": timezone.now()}
    for step, good in ((10, True), (20, True), (30, False), (50, True)):
        alert.run.checkpoints.create(step=step, name=f"at {step}", path=f"attempts/1/{step}", good=good, **saved)
    page = Client().get(address).content.decode()
    assert "Roll back to step 20 and set learning_rate to 0.5 times its value at that step" in page
    assert nothing_happened()
    assert press(Client(), address).status_code == 200
    command = Command.objects.get()
    checkpoint = alert.run.checkpoints.get(step=20)
    assert (command.kind, command.author_name) == ("roll_back", "Operator")
    given = {"checkpoint": str(checkpoint.pk), "knob": "learning_rate", "factor": 0.5}
    assert {name: command.arguments[name] for name in given} == given


@pytest.mark.parametrize(
    ("action", "kind", "arguments"),
    [
        ("pause", "pause", {}),
        ("stop", "stop", {"checkpoint": True}),
        ("save_checkpoint", "save_checkpoint", None),
        ("halve", "set_knob", {"knob": "learning_rate", "value": None, "factor": 0.5, "group": ""}),
    ],
)
def test_the_button_asks_the_run_in_the_name_of_its_person(
    link: Link, alert: Alert, action: str, kind: str, arguments: dict[str, Any] | None
) -> None:
    page = press(Client(), link(action))
    assert page.status_code == 200 and "The command was sent" in page.content.decode()
    command = Command.objects.get()
    assert command.author is not None
    assert (command.run_id, command.kind, command.author.username) == (alert.run_id, kind, "operator")
    assert command.arguments == (arguments if arguments is not None else {"name": f"alert {alert.pk}"})
    assert (
        command.author_name == "Operator" and command.reason == f"Alert {alert.pk}: Spike · by a link sent to on call"
    )


def test_an_alert_is_acknowledged_by_its_person(link: Link, alert: Alert) -> None:
    assert "acknowledged" in press(Client(), link("acknowledge")).content.decode()
    alert.refresh_from_db()
    assert (alert.state, alert.acknowledged_name) == (AlertState.ACKNOWLEDGED, "Operator")


def test_it_says_who_was_faster(link: Link, alert: Alert) -> None:
    Alert.objects.update(state=AlertState.ACKNOWLEDGED, acknowledged_name="Ann")
    page = press(Client(), link("acknowledge")).content.decode()
    assert "Nothing was changed" in page and "Ann has already acknowledged the alert" in page


def test_what_the_run_refuses_is_told_with_its_reason(link: Link) -> None:
    Run.objects.update(state=RunState.FINISHED)
    page = press(Client(), link("pause")).content.decode()
    assert "The run is finished" in page and "Nothing was changed" in page


@pytest.mark.parametrize("smallest", [None, 0.01])
def test_the_action_of_the_rule_is_what_the_rule_says_now(link: Link, alert: Alert, smallest: float | None) -> None:
    alert.rule = AlertRule.objects.create(
        project=alert.run.project, detector="spike", action=RuleAction.SCALE_KNOB, knob="learning_rate", factor=0.2,
        smallest=smallest,
    )  # fmt: skip
    alert.save()
    assert "learning_rate to 0.2 times" in Client().get(link("scale_knob")).content.decode()
    press(Client(), link("scale_knob"))
    command = Command.objects.get()
    assert command.arguments["factor"] == 0.2
    # The check of the limit used this value; without it, two links used at once could pass the limit together.
    assert command.expected_value == (None if smallest is None else 0.1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"action": RuleAction.PAUSE}, "The rule of this alert was changed"),
        ({"smallest": 0.09}, "smaller than the rule allows"),
        ({"knob": "k" * 100}, "does not accept this command"),
    ],
)
def test_the_action_of_a_rule_that_was_changed_is_refused(
    link: Link, alert: Alert, changes: dict[str, Any], said: str
) -> None:
    fields: dict[str, Any] = {"action": RuleAction.SCALE_KNOB, "knob": "learning_rate", "factor": 0.2} | changes
    alert.rule = AlertRule.objects.create(project=alert.run.project, detector="spike", **fields)
    alert.save()
    client, address = Client(), link("scale_knob")
    page = client.get(address)
    if page.status_code == 200:
        page = client.post(address, {"nonce": nonce_of(page)})
    assert page.status_code == 409 and said in page.content.decode()
    assert nothing_happened()


def test_a_run_without_a_learning_rate_is_told(link: Link) -> None:
    Run.objects.update(knobs=[])
    page = Client().get(link("halve"))
    assert page.status_code == 409 and "learning rate of this run cannot be changed" in page.content.decode()


def test_a_mail_scanner_changes_nothing(link: Link) -> None:
    """A scanner follows each link of a message and of the pages behind it, but submits no form."""
    for action in ("pause", "stop", "acknowledge", "halve", "save_checkpoint"):
        for name in (None, "operator"):
            client = signed_in(name) if name else Client()
            address = link(action)
            for headers in ({}, {"sec-purpose": "prefetch"}, {"purpose": "prefetch"}):
                page = client.get(address, headers=headers)
                assert page.status_code == 200
                client.head(address, headers=headers)
                client.options(address)
            for found in re.findall(r'(?:href|src)="(/[^"]*)"', page.content.decode()):
                client.get(found)
    assert nothing_happened()


def test_a_post_without_what_the_page_holds_changes_nothing(link: Link) -> None:
    address, strict = link(), Client(enforce_csrf_checks=True)
    nonce = nonce_of(strict.get(address))
    assert strict.post(address, {"nonce": nonce}).status_code == 403
    other = nonce_of(Client().get(link("stop")))
    for wrong in ("", "x", nonce[:-1], other):
        page = Client().post(address, {"nonce": wrong})
        assert page.status_code == 409 and "Check it again" in page.content.decode()
    assert nothing_happened()


def test_a_page_that_lay_open_for_long_is_shown_again(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    address = link()
    nonce = nonce_of(Client().get(address))
    monkeypatch.setattr("runs.portal.alerting.links.NONCE_AGE_S", -1)
    assert Client().post(address, {"nonce": nonce}).status_code == 409
    assert nothing_happened()


def test_a_link_acts_once(link: Link) -> None:
    address, client = link(), Client()
    nonce = nonce_of(client.get(address))
    assert client.post(address, {"nonce": nonce}).status_code == 200
    for again in (client.post(address, {"nonce": nonce}), client.get(address), signed_in("owner").get(address)):
        assert again.status_code == 410 and "already used" in again.content.decode()
    assert Command.objects.count() == 1


def test_of_two_that_passed_every_check_one_acts(link: Link, alert: Alert) -> None:
    """Both requests have read that the link is unused, as concurrent requests do: the INSERT decides."""
    token = link().split("/")[3]
    first, second = acting.find(token), acting.find(token)
    viewer = acting.viewer_for(first, User.objects.get(username="operator"))
    acting.act(token, first, viewer)
    with pytest.raises(acting.CannotAct) as refused:
        acting.act(token, second, viewer)
    assert refused.value.status == 410 and Command.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_posts_at_once_one_acts(link: Link) -> None:
    address, answers = link(), []
    clients = [Client(), Client()]
    nonces = [nonce_of(client.get(address)) for client in clients]
    together = threading.Barrier(2)

    def post(client: Client, nonce: str) -> None:
        together.wait()
        answers.append(client.post(address, {"nonce": nonce}).status_code)
        connection.close()

    threads = [threading.Thread(target=post, args=pair) for pair in zip(clients, nonces, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 410]
    assert Command.objects.count() == 1


def test_a_command_that_fails_leaves_the_link_unused(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    address, client = link(), Client(raise_request_exception=False)
    with monkeypatch.context() as broken:
        broken.setattr("runs.portal.alerting.acting.record_as", fail)
        assert press(client, address).status_code == 500
    assert nothing_happened()
    assert press(client, address).status_code == 200


@pytest.mark.parametrize("name", ["viewer", "stranger"])
def test_who_was_demoted_or_removed_acts_no_more(link: Link, name: str) -> None:
    address, client = link(), Client()
    nonce = nonce_of(client.get(address))
    members = Membership.objects.filter(user__username="operator")
    members.update(role=Role.VIEWER) if name == "viewer" else members.delete()
    for page in (client.get(address), client.post(address, {"nonce": nonce})):
        assert page.status_code == 403 and "Operator is not allowed to do this" in page.content.decode()
    User.objects.filter(username="operator").update(is_active=False)
    assert client.get(address).status_code == 403
    assert nothing_happened()


@pytest.mark.parametrize(
    "change",
    [
        lambda destination: destination.delete(),
        lambda destination: AlertDestination.objects.update(is_on=False),
        lambda destination: AlertDestination.objects.update(person=User.objects.get(username="owner")),
        lambda destination: AlertDestination.objects.update(project=Project.objects.create(name="x", slug="x")),
        lambda destination: User.objects.get(username="operator").delete(),
        lambda destination: Alert.objects.all().delete(),
    ],
)
def test_a_link_ends_with_what_it_is_bound_to(
    link: Link, destination: AlertDestination, change: Callable[[AlertDestination], object]
) -> None:
    address = link()
    assert Client().get(address).status_code == 200
    change(destination)
    page = Client().get(address)
    assert page.status_code == 410 and "is no longer valid" in page.content.decode()


def test_expired_and_damaged_links_say_what_to_do(link: Link, alert: Alert) -> None:
    page = Client().get(link(lifetime=timedelta(seconds=-1)))
    assert page.status_code == 410 and "expired" in page.content.decode()
    assert f"/runs/{alert.run_id}/" in page.content.decode()
    address = link()
    for damaged in (
        address[:-2] + "/",
        address.replace("act/W", "act/X"),
        "/alerts/act/x/",
        f"/alerts/act/{'x' * 900}/",
    ):
        for page in (Client().get(damaged), Client().post(damaged, {"nonce": "x"})):
            assert page.status_code == 404 and "not complete" in page.content.decode()
    assert nothing_happened()


def test_every_answer_is_kept_nowhere_and_tells_its_address_to_nobody(link: Link) -> None:
    used = link()
    answers = [press(Client(), used), Client().get(used), Client().get(link()), Client().get("/alerts/act/x/")]
    answers.append(Client().get(link(lifetime=-DAY)))
    for answer in answers:
        assert "no-store" in answer["Cache-Control"] and answer["Referrer-Policy"] == "strict-origin"
        assert answer["X-Robots-Tag"] == "noindex"


class TestLinksOfNobody:
    """Links of a destination without a person, such as a group chat."""

    @pytest.fixture(autouse=True)
    def of_nobody(self, destination: AlertDestination) -> None:
        destination.person = None
        destination.save()

    def test_they_ask_to_log_in_and_say_nothing_of_the_run(self, link: Link) -> None:
        address = link()
        for answer, status in ((Client().get(address), 200), (Client().post(address, {"nonce": "x"}), 401)):
            assert answer.status_code == status
            page = answer.content.decode()
            assert f'href="/login/?next={address.replace(":", "%3A")}"' in page and "night" not in page
        assert nothing_happened()

    def test_they_act_for_who_is_logged_in(self, link: Link) -> None:
        assert press(signed_in("owner"), link("stop")).status_code == 200
        assert Command.objects.get().author_name == "Owner"

    @pytest.mark.parametrize("name", ["viewer", "stranger"])
    def test_they_do_nothing_for_who_may_not(self, link: Link, name: str) -> None:
        address = link()
        nonce = nonce_of(signed_in("operator").get(address))
        client = signed_in(name)
        for answer in (client.get(address), client.post(address, {"nonce": nonce})):
            assert answer.status_code == 403
        assert nothing_happened()

    def test_the_page_of_one_person_is_no_use_to_another(self, link: Link) -> None:
        address = link()
        nonce = nonce_of(signed_in("operator").get(address))
        assert signed_in("owner").post(address, {"nonce": nonce}).status_code == 409
        assert nothing_happened()

    def test_a_share_link_is_no_login(self, link: Link, alert: Alert) -> None:
        owner = User.objects.get(username="owner")
        for scope in (TokenScope.SHARE, TokenScope.COMMAND):
            _, value = create_token(owner, alert.run.project, scope, name="x", run=alert.run)
            client = Client(headers={"authorization": f"Bearer {value}"})
            assert client.post(link(), {"nonce": "x"}).status_code == 401
        assert nothing_happened()


def test_notes_of_links_that_have_expired_are_forgotten(link: Link) -> None:
    UsedAlertLink.objects.create(digest="0" * 64, expires_at=timezone.now() - DAY)
    answer: HttpResponse = press(Client(), link())
    assert answer.status_code == 200
    assert UsedAlertLink.objects.count() == 1 and not UsedAlertLink.objects.filter(digest="0" * 64).exists()
