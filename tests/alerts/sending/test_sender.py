"""`manage.py send_alerts` as a process, with servers that are unavailable, slow or dead, and killed itself."""

from __future__ import annotations

import signal
import subprocess

import psutil

from tests.support.stack import Stack, free_port, rows, wait_for
from tests.support.telling.fake_senders import HttpServer, MailServer
from tests.support.telling.scene import (
    add_destination,
    begin_alerts,
    deliveries,
    let_leases_lapse,
    make_due,
    sending,
    states,
)

ADDRESS = "somebody@example.org"


def mail_of(server: MailServer) -> dict[str, str]:
    return {"STEERSMAN_EMAIL_URL": f"smtp://127.0.0.1:{server.port}"}


def test_forty_alerts_at_once_are_one_mail(lab: Stack) -> None:
    server = MailServer()
    server.start()
    add_destination(lab, "mail", ADDRESS)
    begin_alerts(lab, count=40)
    with sending(lab, **mail_of(server)):
        wait_for(lambda: states(lab) == ["sent"] * 40, lambda: f"the mail\n{lab.log()}")
    server.stop()
    assert len(server.mails) == 1
    (_, mail), = server.mails  # fmt: skip
    assert mail["Subject"] == "[Lab] 40 alerts of 40 runs: Spike"
    assert mail["To"] == ADDRESS
    assert "and 20 more alerts" in mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert server.greetings == ["[127.0.0.1]"]


def test_a_server_that_was_away_gets_each_alert_once(lab: Stack) -> None:
    server = MailServer()
    add_destination(lab, "mail", ADDRESS)
    with sending(lab, **mail_of(server)) as sender:
        begin_alerts(lab, detector="code", title="During the outage")
        wait_for(lambda: deliveries(lab)[0]["tries"], lambda: f"a try\n{lab.log()}")
        tried = deliveries(lab)[0]
        assert tried["state"] == "waiting" and "ConnectionRefusedError" in tried["error"]
        begin_alerts(lab, detector="code", title="Later")
        server.start()
        make_due(lab)
        wait_for(lambda: states(lab) == ["sent"] * 2, lambda: f"both\n{lab.log()}")
        assert sender.poll() is None
    server.stop()
    assert sorted(str(mail["Subject"]) for _, mail in server.mails) == [
        "[Lab] run 0: During the outage",
        "[Lab] run 0: Later",
    ]
    assert len(set(server.ids())) == 2


def test_a_sender_killed_in_the_middle_loses_nothing_and_its_mail_keeps_its_id(lab: Stack) -> None:
    server = MailServer()
    server.accepts.clear()
    server.start()
    add_destination(lab, "mail", ADDRESS)
    begin_alerts(lab)
    with sending(lab, **mail_of(server)) as sender:
        wait_for(lambda: server.mails, lambda: f"the mail under way\n{lab.log()}")
        sender.send_signal(signal.SIGKILL)
        sender.wait()
    assert states(lab) == ["sending"]
    server.accepts.set()
    let_leases_lapse(lab)
    with sending(lab, **mail_of(server)):
        wait_for(lambda: states(lab) == ["sent"], lambda: f"the mail\n{lab.log()}")
    server.stop()
    # The server had accepted the first one, which is unknown here. The second is the same mail.
    assert len(server.mails) == 2 and len(set(server.ids())) == 1


def test_two_senders_send_each_alert_once(lab: Stack) -> None:
    server = MailServer()
    server.start()
    first, second = (add_destination(lab, "mail", f"{name}@example.org") for name in ("one", "two"))
    with sending(lab, **mail_of(server)), sending(lab, **mail_of(server)):
        for _ in range(3):
            begin_alerts(lab, count=5)
        wait_for(lambda: states(lab) == ["sent"] * 30, lambda: f"the mails\n{lab.log()}")
    server.stop()
    assert len(set(server.ids())) == len(server.mails)
    messages = {row["message"] for row in deliveries(lab)}
    assert len(messages) == len(server.mails)
    assert {row["destination_id"] for row in deliveries(lab)} == {first, second}


def test_a_dead_and_a_hanging_destination_delay_no_other(lab: Stack) -> None:
    hanging = MailServer()
    hanging.accepts.clear()
    hanging.start()
    webhook = HttpServer()
    webhook.start()
    dead = add_destination(lab, "service", f"json://127.0.0.1:{free_port()}/dead")
    waits = add_destination(lab, "mail", ADDRESS)
    lives = add_destination(lab, "service", f"json://127.0.0.1:{webhook.port}/live")
    with sending(lab, **mail_of(hanging)):
        begin_alerts(lab)
        wait_for(lambda: states(lab, lives) == ["sent"], lambda: f"the living one\n{lab.log()}")
        wait_for(lambda: deliveries(lab, dead)[0]["tries"], lambda: f"the dead one\n{lab.log()}")
        assert states(lab, waits) == ["sending"]
        begin_alerts(lab)
        wait_for(lambda: states(lab, lives) == ["sent"] * 2, lambda: f"the living one again\n{lab.log()}")
        assert states(lab, dead) == ["waiting"] * 2
        hanging.accepts.set()
    hanging.stop()
    webhook.stop()
    assert len(webhook.requests) == 2


def test_a_final_refusal_is_not_tried_again(lab: Stack) -> None:
    server = MailServer()
    server.refusal = f"550 5.1.1 <{ADDRESS}>: No such user here"
    server.start()
    add_destination(lab, "mail", ADDRESS)
    begin_alerts(lab)
    with sending(lab, **mail_of(server)):
        wait_for(lambda: states(lab) == ["failed"], lambda: f"the refusal\n{lab.log()}")
    server.stop()
    assert deliveries(lab)[0]["error"] == "550 5.1.1 <s…@example.org>: No such user here"


def test_an_address_inside_is_refused_and_so_is_the_mail_server_for_anything_but_mail(lab: Stack) -> None:
    server = MailServer()
    server.start()
    for address in (
        f"json://127.0.0.1:{server.port}",
        f"json://localhost:{server.port}",
        f"json://[::1]:{server.port}",
    ):
        add_destination(lab, "service", address)
    add_destination(lab, "wecom", f"http://127.1:{server.port}/send?key=abcdef")
    mail = add_destination(lab, "mail", ADDRESS)
    begin_alerts(lab)
    with sending(lab, STEERSMAN_ALERT_NETWORKS="", **mail_of(server)):
        wait_for(lambda: sorted(states(lab)) == ["failed"] * 4 + ["sent"], lambda: f"the outcomes\n{lab.log()}")
    server.stop()
    assert states(lab, mail) == ["sent"]
    told = {row["error"] for row in deliveries(lab) if row["destination_id"] != mail}
    assert len(told) == 1 and "STEERSMAN_ALERT_NETWORKS" in told.pop()


def test_the_watch_keeps_a_sender_alive_and_ends_it(lab: Stack) -> None:
    server = MailServer()
    server.start()
    add_destination(lab, "mail", ADDRESS)
    with (lab.folder / "watch.log").open("ab") as log:
        watch = subprocess.Popen(
            lab.command("watch"), env=lab.environment | mail_of(server), stdout=log, stderr=log, start_new_session=True
        )
    try:

        def sender() -> psutil.Process | None:
            children = psutil.Process(watch.pid).children()
            living = [each for each in children if each.status() != psutil.STATUS_ZOMBIE]
            return next((each for each in living if "send_alerts" in each.cmdline()), None)

        first = wait_for(sender, lambda: f"the sender\n{lab.log()}")
        first.kill()
        second = wait_for(lambda: (found := sender()) and found.pid != first.pid and found, "another")
        begin_alerts(lab)
        wait_for(lambda: states(lab) == ["sent"], lambda: f"the mail\n{lab.log()}")
        watch.kill()
        watch.wait()
        wait_for(lambda: not second.is_running(), "the end of the sender")
    finally:
        watch.kill()
        watch.wait()
        server.stop()


def test_what_ends_while_nobody_was_told_of_its_beginning_is_not_told(lab: Stack) -> None:
    begin_alerts(lab)
    add_destination(lab, "mail", ADDRESS, tells_cleared=True)
    run_id = int(rows(lab, "SELECT id FROM runs_run")[0]["id"])
    lab.manage("shell", "-v", "0", "-c", f"from runs.recording.alerts import *\nclear_all({run_id})")
    assert deliveries(lab) == []
