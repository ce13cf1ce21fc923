"""*Send test*, and what pages say if the installation sends no mail."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from runs.access.limiter import Limiter
from runs.alerts.sending import message, outbox, transport
from runs.alerts.sending.errors import NotSent
from runs.alerts.sending.secrets import seal, unseal
from runs.alerts.sending.trial import TestResult
from runs.models import Alert, AlertDelivery, AlertDestination, MailAccount, Project, Run
from tests.portal.test_destination_pages import MAIL_PAGE, PAGE, signed_in
from tests.portal.test_destination_pages import on_call as on_call
from tests.portal.test_destination_pages import owner as owner
from tests.portal.test_destination_pages import project as project

pytestmark = pytest.mark.django_db

BACKEND = "django.core.mail.backends.{}.EmailBackend"
# The destination of mail by the name of Django's backend: in English and in Chinese.
SAID = {
    "console": ("to the terminal", "终端"),
    "filebased": ("to files", "文件"),
    "locmem": ("in memory", "内存"),
    "dummy": ("discards mail", "丢弃"),
}


@pytest.mark.parametrize("name", SAID)
def test_an_installation_that_sends_no_mail_says_so(
    owner: Client, on_call: AlertDestination, project: Project, settings: LazySettings, name: str
) -> None:
    settings.EMAIL_BACKEND = BACKEND.format(name)
    own = f"{PAGE}{on_call.pk}/"
    for client, addresses in (
        (owner, (PAGE, own, f"{PAGE}new/mail/", MAIL_PAGE)),
        (signed_in("viewer"), (PAGE,)),
    ):
        for address in addresses:
            for language, part in zip(("en", "zh-hans"), SAID[name], strict=True):
                page = client.get(address, headers={"accept-language": language}).content.decode()
                assert 'data-testid="unread-mail"' in page and part in page, (address, language)
                assert "STEERSMAN_EMAIL_URL" in page
    assert "unread-mail" not in owner.get(f"{PAGE}new/wecom/").content.decode()
    MailAccount.objects.create(project=project, host="smtp.qq.com", user="a@qq.com", secret=seal("code"))
    for address in (PAGE, own, MAIL_PAGE):
        assert "unread-mail" not in owner.get(address).content.decode()


def test_nobody_is_warned_of_mail_where_it_is_sent_or_nobody_is_told_by_it(
    owner: Client, on_call: AlertDestination, settings: LazySettings
) -> None:
    settings.EMAIL_BACKEND = BACKEND.format("smtp")
    assert "unread-mail" not in owner.get(PAGE).content.decode() + owner.get(MAIL_PAGE).content.decode()
    settings.EMAIL_BACKEND = BACKEND.format("console")
    AlertDestination.objects.filter(pk=on_call.pk).update(is_on=False)
    assert "unread-mail" not in owner.get(PAGE).content.decode()


@pytest.mark.parametrize("name", SAID)
def test_what_nobody_receives_is_not_sent(
    on_call: AlertDestination,
    settings: LazySettings,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    settings.EMAIL_BACKEND = BACKEND.format(name)
    settings.EMAIL_FILE_PATH = folder = tmp_path_factory.mktemp("mail")
    with pytest.raises(NotSent, match=SAID[name][0]) as refused:
        transport.send(on_call, message.test_of(uuid4(), on_call))
    assert refused.value.is_final and "STEERSMAN_EMAIL_URL" in str(refused.value)
    assert len(list(folder.iterdir())) == (name == "filebased")
    # The links in messages work like keys, so they must not be printed.
    assert capsys.readouterr().out == ""


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[AlertDestination]:
    """The destinations of test messages, each as it was stored at that moment; the server refuses all."""
    tried: list[AlertDestination] = []

    def send(found: AlertDestination) -> TestResult:
        tried.append(AlertDestination.objects.get(pk=found.pk))
        return TestResult(False, "535 <b>wrong</b> authorization code")

    monkeypatch.setattr("runs.alerts.sending.test_message", send)
    monkeypatch.setattr("runs.portal.alerting.owning._trials", Limiter(10, 0.0))
    return tried


def shown(client: Client, address: str) -> str:
    """Return the text of a page about a test, or "" if there is none."""
    page = client.get(address).content.decode()
    return "".join(part.split("</div>")[0] for part in page.split('data-testid="test-result"')[1:])


def test_a_test_is_answered_on_the_page_of_the_destination_and_a_reload_sends_none(
    owner: Client, on_call: AlertDestination, trials: list[AlertDestination], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = f"{PAGE}{on_call.pk}/"
    answer = owner.post(f"{own}test/")
    assert (answer.status_code, answer["Location"]) == (302, own)
    assert "535 &lt;b&gt;wrong&lt;/b&gt; authorization code" in (said := shown(owner, own)) and "was not sent" in said
    assert shown(owner, own) == "" and trials == [on_call]
    monkeypatch.setattr("runs.alerts.sending.test_message", lambda _: TestResult(True, "250 2.0.0 Ok: queued"))
    owner.post(f"{own}test/")
    assert "250 2.0.0 Ok: queued" in (said := shown(owner, own)) and "was accepted" in said


def test_a_mail_account_is_tried_before_there_is_a_destination(
    owner: Client, project: Project, trials: list[AlertDestination]
) -> None:
    assert owner.post(f"{MAIL_PAGE}test/", {"to": "ann@example.org"}).status_code == 404
    MailAccount.objects.create(project=project, host="smtp.qq.com", user="a@qq.com", secret=seal("code"))
    answer = owner.post(f"{MAIL_PAGE}test/", {"to": "bo@example.org"})
    assert (answer.status_code, answer["Location"]) == (302, MAIL_PAGE)
    assert "535 " in shown(owner, MAIL_PAGE) and shown(owner, MAIL_PAGE) == ""
    assert [unseal(each.secret) for each in trials] == ["bo@example.org"]
    assert not trials[0].is_on and not AlertDestination.objects.exists()
    answer = owner.post(f"{MAIL_PAGE}test/", {"to": "nobody"})
    assert answer.status_code == 422 and "not a mail address" in answer.content.decode() and len(trials) == 1


def test_tests_are_no_way_to_send_mail_to_many(
    owner: Client, on_call: AlertDestination, trials: list[AlertDestination], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each test starts a process and, if the project has no account, uses the mail server of the installation."""
    monkeypatch.setattr("runs.portal.alerting.owning._trials", Limiter(2, 0.0))
    for said in ("535 ", "535 ", "Wait a minute"):
        owner.post(f"{PAGE}{on_call.pk}/test/")
        assert said in shown(owner, f"{PAGE}{on_call.pk}/")
    assert trials == [on_call] * 2


def test_the_answer_of_a_test_says_so_in_the_language_of_the_page(
    owner: Client, on_call: AlertDestination, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.EMAIL_BACKEND = BACKEND.format("console")

    def send(found: AlertDestination) -> TestResult:
        with pytest.raises(NotSent) as refused:
            transport.send(found, message.test_of(uuid4(), found))
        return TestResult(False, str(refused.value))

    monkeypatch.setattr("runs.alerts.sending.test_message", send)
    for language, part in zip(("en", "zh-hans"), SAID["console"], strict=True):
        answer = owner.post(f"{PAGE}{on_call.pk}/test/", headers={"accept-language": language}, follow=True)
        (result,) = answer.content.decode().split('data-testid="test-result"')[1:]
        assert part in result.split("</div>")[0]


def test_our_own_sentences_in_the_record_of_messages_are_in_the_language_of_the_page(
    owner: Client, on_call: AlertDestination, project: Project
) -> None:
    run = Run.objects.create(project=project, name="night", attempt=1)
    began = {"run": run, "attempt": 1, "severity": "critical", "title": "Spike", "began_at": timezone.now()}
    alert = Alert.objects.create(detector="spike", **began)
    AlertDelivery.objects.create(alert=alert, destination=on_call, due_at=timezone.now())
    AlertDestination.objects.update(is_on=False)
    assert outbox.claim(on_call.pk, timezone.now()) is None
    delivery = AlertDelivery.objects.get()
    assert delivery.error == "The destination is switched off."
    User.objects.create_superuser("admin")
    admin = signed_in("admin")
    for client, address in (
        (owner, PAGE),
        (admin, f"/admin/runs/alert/{alert.pk}/change/"),
        (admin, "/admin/runs/alertdelivery/"),
        (admin, f"/admin/runs/alertdelivery/{delivery.pk}/change/"),
    ):
        page = client.get(address, headers={"accept-language": "zh-hans"}).content.decode()
        assert "此接收方已关闭。" in page and delivery.error not in page, address
    delivery.error = "550 no box"
    delivery.save()
    assert "550 no box" in owner.get(PAGE, headers={"accept-language": "zh-hans"}).content.decode()
