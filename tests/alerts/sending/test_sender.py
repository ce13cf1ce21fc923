"""`manage.py send_alerts` as a process, with servers that are away, slow or dead, and killed itself."""

from __future__ import annotations

from tests.support.stack import Stack, wait_for
from tests.support.telling.fake_senders import MailServer
from tests.support.telling.scene import add_destination, begin_alerts, sending, states

ADDRESS = "somebody@example.org"


def test_forty_alerts_at_once_are_one_mail(lab: Stack) -> None:
    server = MailServer()
    server.start()
    add_destination(lab, "mail", ADDRESS)
    with sending(lab, STEERSMAN_EMAIL_URL=f"smtp://127.0.0.1:{server.port}"):
        begin_alerts(lab, count=40)
        wait_for(lambda: states(lab) == ["sent"] * 40, f"the mail\n{lab.log()}", 30)
    server.stop()
    assert len(server.mails) == 1
    (_, mail), = server.mails  # fmt: skip
    assert mail["Subject"] == "[Lab] 40 alerts of 40 runs: The loss jumped"
    assert mail["To"] == ADDRESS
    text = mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert "and 20 more alerts" in text
