"""Pages of destinations and of the mail account: who may change them, and that no secret is shown again."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from runs.alerts.sending.secrets import seal, unseal
from runs.models import (
    Alert,
    AlertDelivery,
    AlertDestination,
    DeliveryState,
    DestinationKind,
    MailAccount,
    MailSecurity,
    Membership,
    Project,
    Role,
    Run,
)
from runs.portal.alerting import destinations, mail

pytestmark = pytest.mark.django_db

PAGE = "/projects/digits/alerts/"
MAIL_PAGE = PAGE + "mail/"
SETTINGS = {"least_severity": "warning", "quiet_zone": "UTC", "digest_minutes": "0"}
TOKEN = "a1b2c3d4" * 8
DINGTALK = f"https://oapi.dingtalk.com/robot/send?access_token={TOKEN}"
WECOM = "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=693a91f6-7eb2-4bc4-97a0-0ec2f1fa5aaa"


@pytest.fixture(autouse=True)
def project() -> Project:
    project = Project.objects.create(name="Digits", slug="digits")
    other = Project.objects.create(name="Other", slug="other")
    for role in Role.values:
        user = User.objects.create_user(role, first_name=role.title())
        Membership.objects.create(project=project, user=user, role=role)
    User.objects.create_user("stranger")
    neighbour = User.objects.create_user("neighbour")
    Membership.objects.create(project=other, user=neighbour, role=Role.OWNER)
    return project


@pytest.fixture
def owner() -> Client:
    return signed_in("owner")


@pytest.fixture
def on_call(project: Project) -> AlertDestination:
    return AlertDestination.objects.create(
        project=project,
        name="on call",
        kind=DestinationKind.MAIL,
        secret=seal("ann@example.org"),
        hint="a…@example.org",
    )


def signed_in(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(username=name))
    return client


def add(client: Client, kind: str, **fields: str) -> Any:
    return client.post(f"{PAGE}new/{kind}/", SETTINGS | {"name": "on call"} | fields)


def errors(answer: Any) -> dict[str, list[str]]:
    assert answer.status_code == 422, answer.status_code
    found: dict[str, list[str]] = answer.context["form"].errors
    return found


@pytest.mark.parametrize(
    ("kind", "fields", "secret", "hint"),
    [
        ("mail", {"recipients": "ann@example.org, bo@example.org"}, "ann@example.org\nbo@example.org",
         "a…@example.org +1"),
        ("dingtalk", {"webhook": DINGTALK}, DINGTALK, "…c3d4"),
        ("dingtalk", {"webhook": DINGTALK, "signing_secret": "SEC01234567"}, f"{DINGTALK}&secret=SEC01234567",
         "…c3d4"),
        ("wecom", {"webhook": WECOM}, WECOM, "…5aaa"),
        ("service", {"address": "jsons://hooks.example.org/a-secret-path"}, "jsons://hooks.example.org/a-secret-path",
         "jsons://hooks.example.org/…"),
    ],
)  # fmt: skip
def test_an_owner_adds_one_of_each_kind(
    owner: Client, kind: str, fields: dict[str, str], secret: str, hint: str
) -> None:
    assert owner.get(f"{PAGE}new/{kind}/").status_code == 200
    assert add(owner, kind, **fields).status_code == 302
    made = AlertDestination.objects.get()
    assert (made.kind, unseal(made.secret), made.hint) == (kind, secret, hint)
    assert made.created_by == made.changed_by == User.objects.get(username="owner")
    assert secret not in made.secret


def test_what_is_chosen_is_kept(owner: Client) -> None:
    person = User.objects.get(username="operator")
    chosen = {
        "recipients": "ann@example.org", "person": str(person.pk), "least_severity": "critical", "tells_cleared": "on",
        "quiet_from": "22:00", "quiet_until": "07:30", "quiet_zone": "Asia/Shanghai", "digest_minutes": "15",
    }  # fmt: skip
    assert add(owner, "mail", **chosen).status_code == 302
    made = AlertDestination.objects.get()
    assert (made.person, made.least_severity, made.tells_cleared, made.digest_minutes) == (person, "critical", True, 15)
    assert (str(made.quiet_from), str(made.quiet_until), made.quiet_zone) == ("22:00:00", "07:30:00", "Asia/Shanghai")
    page = owner.get(PAGE).content.decode()
    for said in (
        "critical or more severe",
        "quiet 22:00–07:30 Asia/Shanghai",
        "digest of 15 minutes",
        "links act for Operator",
    ):
        assert said in page


@pytest.mark.parametrize(
    ("kind", "fields", "field", "said"),
    [
        ("mail", {}, "recipients", "required"),
        ("mail", {"recipients": "nobody"}, "recipients", "not a mail address"),
        ("mail", {"recipients": " , "}, "recipients", "required|at least one"),
        ("dingtalk", {"webhook": "https://evil.example/robot/send?access_token=" + TOKEN}, "webhook", "whole webhook"),
        ("dingtalk", {"webhook": DINGTALK, "signing_secret": "a b"}, "signing_secret", "SEC"),
        ("wecom", {"webhook": DINGTALK}, "webhook", "whole webhook"),
        ("service", {"address": "https://example.org/hook"}, "address", "jsons://"),
        ("service", {"address": "file:///etc/passwd"}, "address", "not a supported network service"),
        ("service", {"address": "ntfys://"}, "address", "address is incomplete"),
        ("mail", {"recipients": "a@b.cc", "quiet_zone": "Mars/Base"}, "quiet_zone", "Asia/Shanghai"),
        ("mail", {"recipients": "a@b.cc", "quiet_zone": "../../etc/passwd"}, "quiet_zone", "Asia/Shanghai"),
        ("mail", {"recipients": "a@b.cc", "quiet_from": "22:00"}, "quiet_until", "both"),
        ("mail", {"recipients": "a@b.cc", "quiet_until": "22:00"}, "quiet_from", "both"),
        ("mail", {"recipients": "a@b.cc", "quiet_from": "22:00", "quiet_until": "22:00"}, "quiet_until", "must differ"),
        ("mail", {"recipients": "a@b.cc", "digest_minutes": "-1"}, "digest_minutes", "0"),
        ("mail", {"recipients": "a@b.cc", "least_severity": "worst"}, "least_severity", "worst"),
        ("mail", {"recipients": "a@b.cc", "name": ""}, "name", "required"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_its_field(
    owner: Client, kind: str, fields: dict[str, str], field: str, said: str
) -> None:
    found = errors(add(owner, kind, **fields))
    assert list(found) == [field]
    assert any(each in " ".join(found[field]) for each in said.split("|")), found
    assert not AlertDestination.objects.exists()


@pytest.mark.parametrize("name", ["viewer", "stranger", "neighbour"])
def test_links_act_for_no_one_who_may_not(owner: Client, name: str) -> None:
    answer = add(owner, "mail", recipients="a@b.cc", person=str(User.objects.get(username=name).pk))
    assert list(errors(answer)) == ["person"]


def test_the_address_is_shown_to_nobody_again(owner: Client) -> None:
    add(owner, "dingtalk", webhook=DINGTALK, signing_secret="SEC01234567")
    made = AlertDestination.objects.get()
    for client in (owner, signed_in("operator"), signed_in("viewer")):
        pages = client.get(PAGE).content.decode() + client.get(f"{PAGE}{made.pk}/").content.decode()
        assert TOKEN not in pages and "SEC01234567" not in pages and made.secret not in pages
        assert "…c3d4" in pages


def test_an_address_that_is_left_empty_stays(owner: Client, on_call: AlertDestination) -> None:
    address = f"{PAGE}{on_call.pk}/"
    assert owner.post(address, SETTINGS | {"name": "night shift"}).status_code == 302
    on_call.refresh_from_db()
    assert (on_call.name, unseal(on_call.secret), on_call.hint) == ("night shift", "ann@example.org", "a…@example.org")
    assert owner.post(address, SETTINGS | {"name": "n", "recipients": "bo@example.org"}).status_code == 302
    on_call.refresh_from_db()
    assert (unseal(on_call.secret), on_call.hint) == ("bo@example.org", "b…@example.org")


def test_a_signing_secret_alone_changes_nothing(owner: Client) -> None:
    add(owner, "dingtalk", webhook=DINGTALK)
    made = AlertDestination.objects.get()
    answer = owner.post(f"{PAGE}{made.pk}/", SETTINGS | {"name": "x", "signing_secret": "SEC01234567"})
    assert list(errors(answer)) == ["webhook"]


def test_it_is_switched_off_and_on_and_deleted_and_each_is_noted(owner: Client, on_call: AlertDestination) -> None:
    for button, is_on in (("off", False), ("on", True)):
        assert owner.post(f"{PAGE}{on_call.pk}/switch/", {button: ""}).status_code == 302
        on_call.refresh_from_db()
        assert on_call.is_on is is_on and on_call.changed_by == User.objects.get(username="owner")
    owner.post(f"{PAGE}{on_call.pk}/", SETTINGS | {"name": "renamed", "recipients": "bo@example.org"})
    owner.post(f"{PAGE}{on_call.pk}/delete/")
    assert not AlertDestination.objects.exists()
    noted = LogEntry.objects.order_by("pk").values_list("user__username", "change_message")
    changes = ["switched off", "switched on", "changed: name, recipients", "deleted"]
    assert list(noted) == [("owner", change) for change in changes]


@pytest.mark.parametrize(
    ("name", "sees", "may"),
    [("viewer", 200, 403), ("operator", 200, 403), ("stranger", 404, 404), ("neighbour", 404, 404), ("", 302, 302)],
)
def test_only_owners_of_the_project_change_anything(
    on_call: AlertDestination, project: Project, monkeypatch: pytest.MonkeyPatch, name: str, sees: int, may: int
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a message was sent")

    for module in (destinations, mail):
        monkeypatch.setattr(module, "try_out", refuse)
    MailAccount.objects.create(project=project, host="smtp.qq.com", user="a@qq.com", secret=seal("code"))
    client = signed_in(name) if name else Client()
    assert client.get(PAGE).status_code == sees
    own = f"{PAGE}{on_call.pk}/"
    for address in (f"{PAGE}new/mail/", own, MAIL_PAGE):
        assert client.get(address).status_code == may
        assert client.post(address, SETTINGS | {"name": "x", "recipients": "a@b.cc"}).status_code == may
    for address in (f"{own}switch/", f"{own}test/", f"{own}delete/", f"{MAIL_PAGE}test/", f"{MAIL_PAGE}delete/"):
        assert client.post(address, {"to": "a@b.cc"}).status_code == may
        assert client.get(address).status_code in (302, 405)
    on_call.refresh_from_db()
    assert (on_call.name, on_call.is_on, MailAccount.objects.count()) == ("on call", True, 1)


def test_an_owner_of_another_project_reaches_none_through_their_own(on_call: AlertDestination) -> None:
    neighbour = signed_in("neighbour")
    for end in ("", "switch/", "test/", "delete/"):
        assert neighbour.post(f"/projects/other/alerts/{on_call.pk}/{end}", {"name": "x"}).status_code == 404
    assert AlertDestination.objects.filter(pk=on_call.pk, is_on=True).exists()


def test_members_see_the_state_of_messages_and_owners_the_error(owner: Client, on_call: AlertDestination) -> None:
    run = Run.objects.create(project=on_call.project, name="night")
    alert = Alert.objects.create(
        run=run, attempt=1, detector="spike", severity="critical", title="Loss rose", began_at=timezone.now()
    )
    AlertDelivery.objects.create(
        alert=alert, destination=on_call, state=DeliveryState.FAILED, due_at=timezone.now(), tries=3, error="550 no box"
    )
    for client, sees in ((owner, True), (signed_in("operator"), False), (signed_in("viewer"), False)):
        page = client.get(PAGE).content.decode()
        assert "Spike" in page and "failed" in page and "3 tries" in page
        assert ("550 no box" in page) is sees
    assert "尖峰" in owner.get(PAGE, headers={"accept-language": "zh-hans"}).content.decode()


def test_the_admin_shows_both_without_a_secret_and_changes_neither(on_call: AlertDestination) -> None:
    User.objects.create_superuser("admin")
    MailAccount.objects.create(project=on_call.project, host="smtp.qq.com", user="a@qq.com", secret=seal("code"))
    run = Run.objects.create(project=on_call.project, name="night")
    alert = Alert.objects.create(
        run=run, attempt=1, detector="spike", severity="critical", title="Loss rose", began_at=timezone.now()
    )
    delivery = AlertDelivery.objects.create(alert=alert, destination=on_call, due_at=timezone.now(), error="550 no box")
    admin = signed_in("admin")
    rows = {"alertdestination": on_call, "mailaccount": MailAccount.objects.get(), "alertdelivery": delivery}
    for name, row in rows.items():
        page = f"/admin/runs/{name}/"
        shown = admin.get(page).content.decode() + admin.get(f"{page}{row.pk}/change/").content.decode()
        assert on_call.secret not in shown and rows["mailaccount"].secret not in shown
        assert admin.get(f"{page}add/").status_code == 403
        for end in ("change", "delete"):
            assert admin.post(f"{page}{row.pk}/{end}/", {"post": "yes", "secret": "x"}).status_code == 403
    page = admin.get(f"/admin/runs/alert/{alert.pk}/change/").content.decode()
    assert "on call" in page and "550 no box" in page


def test_it_names_the_public_address_that_is_missing(owner: Client, settings: LazySettings) -> None:
    settings.STEERSMAN_PUBLIC_URL = ""
    for page in (PAGE, f"{PAGE}new/mail/"):
        assert "STEERSMAN_PUBLIC_URL" in owner.get(page).content.decode()
    settings.STEERSMAN_PUBLIC_URL = "https://train.example.org"
    assert "STEERSMAN_PUBLIC_URL" not in owner.get(PAGE).content.decode()


class TestMailAccount:
    OTHER = {"preset": "other", "user": "ann@example.org", "code": "code", "host": "smtp.example.org"}

    @pytest.mark.parametrize(
        ("preset", "host"), [("qq", "smtp.qq.com"), ("163", "smtp.163.com"), ("gmail", "smtp.gmail.com")]
    )
    def test_a_preset_is_enough(self, owner: Client, preset: str, host: str) -> None:
        """The fields of another server may have any content, because they cannot be hidden without a script."""
        wrong = {"host": "evil.example", "port": "99999", "security": "none", "sender": "other@example.org"}
        answer = owner.post(MAIL_PAGE, {"preset": preset, "user": "ann@example.org", "code": "abcd"} | wrong)
        assert answer.status_code == 302
        account = MailAccount.objects.get()
        assert (account.host, account.port, account.security, account.sender) == (host, 465, MailSecurity.TLS, "")
        assert (account.user, unseal(account.secret)) == ("ann@example.org", "abcd")
        assert account.changed_by == User.objects.get(username="owner")
        page = owner.get(MAIL_PAGE).content.decode()
        assert "abcd" not in page and f'value="{preset}"' in page
        assert owner.get(MAIL_PAGE).context["form"]["preset"].value() == preset

    @pytest.mark.parametrize(("security", "port"), [("tls", 465), ("starttls", 587)])
    def test_another_server_has_the_usual_port(self, owner: Client, security: str, port: int) -> None:
        assert owner.post(MAIL_PAGE, self.OTHER | {"security": security}).status_code == 302
        account = MailAccount.objects.get()
        assert (account.host, account.port, account.security) == ("smtp.example.org", port, security)

    def test_a_relay_needs_no_account(self, owner: Client) -> None:
        relay = {"preset": "other", "host": "relay", "security": "none", "sender": "train@example.org"}
        assert owner.post(MAIL_PAGE, relay).status_code == 302
        assert (MailAccount.objects.get().secret, MailAccount.objects.get().port) == ("", 25)

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"preset": "yahoo"}, "preset"),
            ({"preset": "qq", "user": "ann"}, "user"),
            ({"code": ""}, "code"),
            ({"host": "https://smtp.example.org"}, "host"),
            ({"host": ""}, "host"),
            ({"port": "0"}, "port"),
            ({"security": "none"}, "security"),
            ({"user": "ann"}, "user"),
            ({"sender": "ann"}, "sender"),
        ],
    )
    def test_what_cannot_be_used_is_refused_with_its_field(
        self, owner: Client, changes: dict[str, str], field: str
    ) -> None:
        assert list(errors(owner.post(MAIL_PAGE, self.OTHER | changes))) == [field]
        assert not MailAccount.objects.exists()

    @pytest.mark.parametrize(
        "changes", [{"host": "evil.example"}, {"port": "2465"}, {"security": "starttls"}, {"user": "bo@example.org"}]
    )
    def test_a_kept_password_goes_to_no_other_server(self, owner: Client, changes: dict[str, str]) -> None:
        owner.post(MAIL_PAGE, self.OTHER | {"port": "465"})
        again = self.OTHER | {"code": "", "port": "465", "sender": "train@example.org"}
        assert owner.post(MAIL_PAGE, again).status_code == 302
        assert unseal(MailAccount.objects.get().secret) == "code"
        assert list(errors(owner.post(MAIL_PAGE, again | changes))) == ["code"]
        assert MailAccount.objects.get().host == "smtp.example.org"

    def test_it_is_deleted(self, owner: Client) -> None:
        owner.post(MAIL_PAGE, self.OTHER)
        assert owner.post(f"{MAIL_PAGE}delete/").status_code == 302
        assert not MailAccount.objects.exists()
        assert list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True)) == ["added", "deleted"]
