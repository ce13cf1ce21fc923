"""*Send test* and what pages say of an installation that sends no mail."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.test import Client

from runs.alerts.sending import message, transport
from runs.alerts.sending.errors import NotSent
from runs.alerts.sending.secrets import seal
from runs.alerts.sending.trial import TestResult
from runs.models import AlertDestination, MailAccount, Project
from tests.portal.test_destination_pages import MAIL_PAGE, PAGE, signed_in
from tests.portal.test_destination_pages import on_call as on_call
from tests.portal.test_destination_pages import owner as owner
from tests.portal.test_destination_pages import project as project

pytestmark = pytest.mark.django_db

BACKEND = "django.core.mail.backends.{}.EmailBackend"
# What becomes of mail, by the name of Django's backend: in English and in Chinese.
SAID = {
    "console": ("to the terminal", "终端"),
    "filebased": ("to files", "文件"),
    "locmem": ("in memory", "内存"),
    "dummy": ("throws mail away", "丢弃"),
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
    # Links of messages are keys.
    assert capsys.readouterr().out == ""


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
