"""`/ws/hosts/` on a real portal with a real `manage.py record`: who gets in, what is stored, what comes back."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from steersman.exit_codes import EXIT_HELD
from steersman.messages.ended import Concluded, Ended, Fenced, LastWords
from steersman.messages.orders import EndProcess, Post, SignalRequest
from steersman.messages.reports import Attached, Stored
from steersman.records.kinds import OutcomeRecord, PointRecord
from steersman.wire.codec import encode
from tests.remote_hosts.a_host import (
    Opened,
    attach,
    closed,
    hear,
    open_run,
    patient_socket_of,
    points,
    report,
    say,
    socket_of,
    train_token,
)
from tests.support.locked_database import write_locked
from tests.support.stack import ROOT, Stack, events, free_port, rows, run_row, seed_stack, wait_for
from tests.support.watcher import ticket_of

FINISHED = Ended(rank=0, code=0, codes=[0], last_words=LastWords(outcome="finished"))


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(STEERSMAN_HOSTS_PER_USER="3") as stack:
        seed_stack(stack)
        stack.start_redis()
        stack.start_web()
        stack.start_record()
        yield stack


@pytest.fixture(scope="module")
def token(stack: Stack) -> str:
    return train_token(stack)


@pytest.fixture
def opened(stack: Stack, token: str, request: pytest.FixtureRequest) -> Opened:
    return open_run(stack, token, key=request.node.name)


def steps_of(stack: Stack, opened: Opened) -> list[int]:
    blocks = [block for event in events(stack, opened.run, "metrics") for block in event["blocks"]]
    return [step for block in blocks for step in block["steps"]]


def test_it_records_a_run_to_its_end(stack: Stack, token: str, opened: Opened) -> None:
    with patient_socket_of(stack, token, opened) as socket:
        attached = attach(socket)
        assert (attached.session, attached.next_report) == (1, 1)
        first = report(socket, points(attached, 1, [1, 2]))
        assert (first.number, first.report_every_s) == (1, 1.0)
        # Repeated, it changes nothing.
        assert report(socket, points(attached, 1, [1, 2])).number == 1
        # Too early, neither.
        assert report(socket, points(attached, 3, [5])).number == 1
        assert steps_of(stack, opened) == [1, 2]
        stack.manage("command", str(opened.run), "pause")
        post: Post = hear(socket, Post)
        assert post.command.command == "pause"
        outcome = OutcomeRecord(id=post.command.id, step=2, number=2, time=1.7e9, command="pause", state="applied")
        report(socket, points(attached, 2, [3], records=[outcome], posted=[post.command.id]))
        # One that the channel layer does not announce comes too.
        mute = stack.environment | {"STEERSMAN_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
        subprocess.run(stack.command("command", str(opened.run), "resume"), env=mute, check=True, capture_output=True)
        post = hear(socket, Post)
        assert post.command.command == "resume"
        outcome = OutcomeRecord(id=post.command.id, step=3, number=3, time=1.7e9, command="resume", state="applied")
        report(socket, points(attached, 3, [4], records=[outcome], posted=[post.command.id]))
        say(socket, FINISHED)
        concluded: Concluded = hear(socket, Concluded)
        assert concluded.state == "finished"
    assert run_row(stack, opened.run)["state"] == "finished" and steps_of(stack, opened) == [1, 2, 3, 4]
    states = rows(stack, "SELECT state FROM runs_command WHERE run_id = ?", opened.run)
    assert [row["state"] for row in states] == ["applied", "applied"]


def test_it_asks_for_more_reports_while_somebody_watches(stack: Stack, token: str, opened: Opened) -> None:
    viewing = train_token(stack, scope="view")
    address = f"{stack.address.replace('http', 'ws')}/ws/runs/{opened.run}/"
    with patient_socket_of(stack, token, opened) as socket:
        attached = attach(socket)
        assert report(socket, points(attached, 1, [1])).report_every_s == 1.0
        with connect(f"{address}?token={ticket_of(stack, opened.run, viewing)}", open_timeout=60) as viewer:
            assert json.loads(viewer.recv(timeout=60))["kind"] == "hello"
            numbers = iter(range(2, 10_000))

            def is_asked() -> bool:
                number = next(numbers)
                return report(socket, points(attached, number, [number])).report_every_s == 0.08

            wait_for(is_asked, "shorter times between reports", timeout_s=60)


def test_it_asks_for_more_reports_when_a_portal_announces_a_viewer(stack: Stack, token: str, opened: Opened) -> None:
    announced = (
        f"from runs.recording import announcer, feed; feed.announce_viewer({opened.run}); announcer.current().flush(60)"
    )
    with patient_socket_of(stack, token, opened) as socket:
        attached = attach(socket)
        assert report(socket, points(attached, 1, [1])).report_every_s == 1.0
        numbers = iter(range(2, 10_000))

        def is_asked() -> bool:
            # No viewer is in the database, so only the announcement can do it.
            stack.manage("shell", "-c", announced)
            number = next(numbers)
            return report(socket, points(attached, number, [number])).report_every_s == 0.08

        wait_for(is_asked, "shorter times between reports", timeout_s=60)


def test_a_host_that_returns_continues_and_the_earlier_connection_does_not(
    stack: Stack, token: str, opened: Opened
) -> None:
    with patient_socket_of(stack, token, opened) as old, patient_socket_of(stack, token, opened) as new:
        before = attach(old)
        report(old, points(before, 1, [1]))
        after = attach(new, "two")
        assert (after.session, after.next_report, after.positions[0].next_number) == (2, 2, 1)
        say(old, points(before, 2, [2]))
        fenced: Fenced = hear(old, Fenced)
        assert not fenced.overtaken
        assert report(new, points(after, 2, [2])).number == 2
    assert steps_of(stack, opened) == [1, 2]


def test_it_refuses_whoever_may_not_report_a_run(stack: Stack, token: str, opened: Opened) -> None:
    own = f"run={opened.run}&attempt={opened.attempt}"
    viewing, of_owner = train_token(stack, scope="view"), train_token(stack, "owner")
    refused = [
        (socket_of(stack, "", own), 4401, "Send a token"),
        (socket_of(stack, "stm_invented", own), 4401, "unknown, expired or revoked"),
        (socket_of(stack, viewing, own), 4403, "scope view"),
        (socket_of(stack, of_owner, own), 4403, "the person who opened the run"),
        (socket_of(stack, token, "run=999&attempt=1"), 4404, "no such run"),
        (socket_of(stack, token, f"run={opened.run}&attempt=9"), 4404, "no such run"),
        (socket_of(stack, token, ""), 4404, "Name the run"),
        (socket_of(stack, token, "run=1;DROP&attempt=-1"), 4404, "Name the run"),
        (socket_of(stack, token, own, version=""), 4426, "Steersman-Version"),
        (socket_of(stack, token, own, version="99.1.0"), 4426, "the host has 99.1.0"),
        (socket_of(stack, token, own, protocol="steersman.v1"), 4426, "steersman.host.v1"),
    ]
    for socket, code, words in refused:
        with socket:
            found, reason = closed(socket)
            assert (found, words in reason) == (code, True), reason
    assert not events(stack, opened.run, "metrics")


def test_it_closes_on_what_is_no_message_of_a_host(stack: Stack, token: str, opened: Opened) -> None:
    def answer_to(make: Callable[[Attached], bytes | str]) -> tuple[int, str]:
        with patient_socket_of(stack, token, opened) as socket:
            message = make(attach(socket, "garbage"))
            with suppress(ConnectionClosed):
                socket.send(message)
            return closed(socket)

    assert answer_to(lambda attached: b"x" * (16 * 1024 * 1024 + 1))[0] == 1009
    asked = [SignalRequest(id="no", command="fly", author="SIGTERM")]
    for make in (
        lambda attached: b"\xff\x00garbage",
        lambda attached: "text",
        lambda attached: encode(Stored(1, {})),
        lambda attached: encode(EndProcess("x")),
        lambda attached: encode(points(attached, 1, [1], asked=asked)),
    ):
        code, reason = answer_to(make)
        assert code == 4400 and reason.startswith("A message is not valid"), reason
    assert not events(stack, opened.run, "metrics")


def test_it_waits_for_a_busy_database_and_stores_once(stack: Stack, token: str, opened: Opened) -> None:
    with patient_socket_of(stack, token, opened) as socket:
        attached = attach(socket)
        with write_locked(stack, opened.run):
            for _ in range(3):
                say(socket, points(attached, 1, [1]))
            log = stack.folder / "record.log"
            wait_for(lambda: "nothing can be stored now" in log.read_text(), "the end of its patience", timeout_s=60)
        assert [hear(socket, Stored).number for _ in range(3)] == [1, 1, 1]
    assert steps_of(stack, opened) == [1]


def test_its_detectors_find_what_goes_wrong(stack: Stack, token: str, opened: Opened) -> None:
    with patient_socket_of(stack, token, opened) as socket:
        attached = attach(socket)
        nan = PointRecord(step=2, number=1, time=1.7e9 + 2, values={"loss": math.nan})
        report(socket, points(attached, 1, [1], records=[nan]))
        found = "SELECT detector, series FROM runs_alert WHERE run_id = ?"
        [alert] = wait_for(lambda: rows(stack, found, opened.run), lambda: f"an alert\n{stack.log()}", timeout_s=60)
        assert (alert["detector"], alert["series"]) == ("non-finite", "loss")


def test_it_limits_the_connections_of_a_user(stack: Stack, token: str, opened: Opened) -> None:
    own = f"run={opened.run}&attempt={opened.attempt}"
    with ExitStack() as open_ones:
        for number in range(3):
            socket = open_ones.enter_context(patient_socket_of(stack, token, opened))
            attach(socket, str(number))
        with socket_of(stack, token, own) as fourth:
            code, reason = closed(fourth)
            assert code == 4429 and "STEERSMAN_HOSTS_PER_USER" in reason
    # The places are free again.
    with patient_socket_of(stack, token, opened) as socket:
        attach(socket)


def test_a_revoked_token_closes_its_connection(stack: Stack, opened: Opened) -> None:
    token = train_token(stack)
    with patient_socket_of(stack, token, opened) as socket:
        attach(socket)
        revoking = "from runs.access.tokens import find_token, revoke; from runs.models import TokenScope"
        stack.manage("shell", "-v", "0", "-c", f"{revoking}; revoke(find_token({token!r}, TokenScope.values))")
        assert closed(socket)[0] == 4401


def test_a_restarted_process_closes_with_1012_and_continues(stack: Stack, token: str, opened: Opened) -> None:
    with patient_socket_of(stack, token, opened) as socket:
        attached = attach(socket)
        report(socket, points(attached, 1, [1]))
        assert stack.record is not None
        stack.record.terminate()
        assert closed(socket)[0] == 1012
    assert stack.record.wait(60) == 0
    # Meanwhile the portal refuses hosts, and serves pages.
    with pytest.raises(Exception, match="503"):
        socket_of(stack, token, "run=1&attempt=1")
    port = free_port()
    stack.start_record("--port", str(port))
    with patient_socket_of(stack, token, opened) as socket:
        again = attach(socket)
        assert (again.session, again.next_report) == (2, 2)
        # A portal that is killed cuts no training host.
        assert stack.web is not None
        stack.web.kill()
        stack.web.wait()
        assert report(socket, points(again, 2, [2])).number == 2
    # Proxies use its own port, which needs no portal.
    with socket_of(stack, token, f"run={opened.run}&attempt={opened.attempt}", port=port) as socket:
        assert report(socket, points(attach(socket), 3, [3])).number == 3
    stack.start_web()
    assert steps_of(stack, opened) == [1, 2, 3]
    # One is enough for a data folder.
    second = stack.manage("record", check=False, cwd=ROOT)
    assert second.returncode == EXIT_HELD and "one is enough" in second.stderr


def test_the_document_names_each_close_code() -> None:
    from trainer.remote_hosts.close_codes import HOST_CLOSE_CODES

    text = (ROOT / "docs" / "protocol.md").read_text()
    section = text.split("\n### Close codes for training hosts\n", 1)[1].split("\n## ", 1)[0].split("\n### ", 1)[0]
    rows_of = re.findall(r"^\| (\d{4}) \| ([^|]+) \|", section, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows_of} == HOST_CLOSE_CODES
