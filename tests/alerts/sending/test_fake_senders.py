"""*Send test* and alerts to five servers that answer like real ones; their answers and logs contain no secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.stack import Stack, wait_for
from tests.support.telling.fake_senders import ACCOUNT, CODE, DingTalkRobot, MailServer, Ntfy, WeComRobot
from tests.support.telling.scene import (
    INSIDE,
    add_destination,
    begin_alerts,
    deliveries,
    run_code,
    sending,
    set_account,
    states,
)

TEST = """
import dataclasses, json
from runs.alerts.sending import test_message
from runs.models import AlertDestination
print(json.dumps(dataclasses.asdict(test_message(AlertDestination.objects.get(pk={pk})))))
"""


def tried(lab: Stack, destination: int, **variables: str) -> tuple[bool, str]:
    """Send a test as the page does; return whether it was accepted, and the answer."""
    lab.environment |= INSIDE | variables
    found: dict[str, Any] = json.loads(run_code(lab, TEST.format(pk=destination)).splitlines()[-1])
    return found["ok"], found["answer"]


def account_at(server: MailServer, security: str, **fields: Any) -> dict[str, Any]:
    return {"host": "localhost", "port": server.port, "security": security, "user": ACCOUNT, "secret": CODE, **fields}


def test_a_server_like_qqs_takes_mail_of_its_own_sender_alone(lab: Stack, certificate: Path) -> None:
    server = MailServer(certificate, "tls")
    server.start()
    mail = add_destination(lab, "mail", "somebody@example.org")
    set_account(lab, **account_at(server, "tls"))
    assert tried(lab, mail, SSL_CERT_FILE=str(certificate)) == (True, "250 OK")
    set_account(lab, **account_at(server, "tls", sender="steersman@example.org"))
    assert tried(lab, mail) == (False, "501 Mail from address must be same as authorization user.")
    set_account(lab, **account_at(server, "tls", secret="wrongcode"))
    assert tried(lab, mail) == (False, "535 Login fail. Authorization code is expired")
    server.stop()
    ok, answer = tried(lab, mail)
    assert not ok and "ConnectionRefusedError" in answer
    assert [str(each["From"]) for _, each in server.mails] == [ACCOUNT]


def test_a_server_with_starttls_takes_mail_with_text_html_and_curve(lab: Stack, certificate: Path) -> None:
    server = MailServer(certificate, "starttls")
    server.start()
    mail = add_destination(lab, "mail", "somebody@example.org")
    set_account(lab, **account_at(server, "starttls"))
    assert tried(lab, mail, SSL_CERT_FILE=str(certificate))[0]
    begin_alerts(lab, series="train/loss", points=True, usual="0.31 ± 0.02")
    with sending(lab, STEERSMAN_PUBLIC_URL="https://steersman.example.org"):
        wait_for(lambda: states(lab) == ["sent"], lambda: f"the mail\n{lab.log()}")
    server.stop()
    told = server.mails[-1][1]
    text = told.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    html = told.get_body(("html",)).get_content()  # type: ignore[union-attr]
    for part in ("run 0", "Lab", "train/loss", "7", "9.5", "0.31 ± 0.02", "https://steersman.example.org/runs/1/"):
        assert part in text and part in html
    assert text.count("https://steersman.example.org/alerts/act/") == 4
    (picture,) = (part for part in told.walk() if part.get_content_type() == "image/png")
    assert picture.get_content().startswith(b"\x89PNG")
    assert f"cid:{picture['Content-ID'].strip('<>')}" in html
    assert CODE not in lab.log()


def test_a_dingtalk_robot_takes_what_is_signed_and_has_its_keyword(lab: Stack) -> None:
    robot = DingTalkRobot("training")
    robot.start()
    without = add_destination(lab, "dingtalk", robot.url)
    ok, answer = tried(lab, without)
    assert not ok and "keywords not in content" in answer
    assert tried(lab, add_destination(lab, "dingtalk", robot.url, keyword="training"))[0]
    ok, answer = tried(lab, add_destination(lab, "dingtalk", robot.url + "x", keyword="training"))
    assert not ok and "sign not match" in answer
    ok, answer = tried(lab, add_destination(lab, "dingtalk", robot.url.replace("tokenof", "othertoken")))
    assert not ok and "token is not exist" in answer and "othertoken" not in answer
    robot.stop()
    assert len(robot.texts) == 1 and robot.texts[0].startswith("training")


def test_a_wecom_robot_takes_long_messages_and_says_what_is_wrong(lab: Stack) -> None:
    robot = WeComRobot()
    robot.start()
    destination = add_destination(lab, "wecom", robot.url)
    assert tried(lab, destination)[0]
    begin_alerts(lab, count=20, text="四" * 300)
    with sending(lab):
        wait_for(lambda: states(lab) == ["sent"] * 20, lambda: f"the message\n{lab.log()}")
    ok, answer = tried(lab, add_destination(lab, "wecom", robot.url + "wrong"))
    assert not ok and "invalid webhook url" in answer and robot.key not in answer
    robot.stop()


def test_ntfy_takes_a_message_and_the_curve(lab: Stack) -> None:
    server = Ntfy()
    server.start()
    destination = add_destination(lab, "service", server.url)
    assert tried(lab, destination) == (True, "The service accepted the message.")
    begin_alerts(lab, series="train/loss", points=True)
    with sending(lab):
        wait_for(lambda: states(lab) == ["sent"], lambda: f"the message\n{lab.log()}")
    assert any(body.startswith(b"\x89PNG") for _, _, _, body in server.requests)
    wrong = add_destination(lab, "service", server.url.replace(server.token, "tk_wrongtoken"))
    ok, answer = tried(lab, wrong)
    assert not ok and "wrongtoken" not in answer and server.topic not in answer
    server.stop()


def test_secrets_are_in_no_log_and_no_error_whatever_the_level(lab: Stack) -> None:
    robot = DingTalkRobot("never in a text")
    robot.start()
    ntfy = Ntfy()
    ntfy.start()
    add_destination(lab, "dingtalk", robot.url)
    add_destination(lab, "service", ntfy.url.replace(ntfy.token, "tk_wrongtoken"))
    begin_alerts(lab)
    with sending(lab, STEERSMAN_LOG_LEVEL="DEBUG"):
        wait_for(lambda: all(row["tries"] for row in deliveries(lab)), lambda: f"the tries\n{lab.log()}")
    robot.stop()
    ntfy.stop()
    told = lab.log() + " ".join(row["error"] for row in deliveries(lab))
    assert "keywords not in content" in told
    for secret in (robot.token, robot.key, "tk_wrongtoken"):
        assert secret not in told
