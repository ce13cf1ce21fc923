"""Limits for viewers and strangers, with two real portals.

Where tables are missing, the portal must decide from memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from runs.live.socket_limits import ANSWERS_BURST, FAILURES_BURST, VISITS_PER_PLACE, Handshakes
from tests.support.locked_database import write_locked
from tests.support.stack import Stack, create_run, free_port, rows, seed_stack, wait_for
from tests.support.watcher import close_code_of, ticket_of

# The value of `monitor_site.serving.daphne_server`, whose import would install a reactor.
MESSAGES_BURST = 3_000
PER_USER, PER_LINK, IN_ALL = 3, 5, 9
LIMITS = {
    "STEERSMAN_SOCKETS_PER_USER": str(PER_USER),
    "STEERSMAN_SOCKETS_PER_LINK": str(PER_LINK),
    "STEERSMAN_SOCKETS_IN_ALL": str(IN_ALL),
}
# Tickets of two people, as their sessions get them.
TICKETS = """
from django.contrib.auth.models import User
from runs.access.tickets import issue_ticket
from runs.models import Run
for name in ("owner", "operator"):
    for _ in range({number}):
        print(issue_ticket(User.objects.get(username=name), Run.objects.get(pk={run})))
"""


@pytest.fixture
def stack() -> Iterator[Stack]:
    with Stack(**LIMITS) as stack:
        seed_stack(stack)
        stack.start_redis()
        stack.start_web()
        yield stack


# So few visits that a short test can use them up, and no new ones meanwhile.
FEW_VISITS = """
from runs.live import socket_limits
assert socket_limits.FEWEST_VISITS and socket_limits.REFILL_S
socket_limits.FEWEST_VISITS, socket_limits.REFILL_S = {}, 1e9
"""


@pytest.fixture
def second(stack: Stack) -> Iterator[int]:
    """The port of another portal on the same database."""
    port, first = stack.port, stack.web
    stack.port = free_port()
    stack.start_web()
    yield stack.port
    assert stack.web is not None
    stack.web.kill()
    stack.web.wait()
    stack.port, stack.web = port, first


def token_of(stack: Stack, user: str, scope: str, *options: str) -> str:
    return stack.manage("create_token", "--project", "lab", "--user", user, "--scope", scope, *options).stdout.strip()


def share_of(stack: Stack, run: int) -> str:
    return token_of(stack, "operator", "share", "--run", str(run)).rpartition("/")[2]


def socket_of(port: int, run: int, *, bearer: str = "", token: str = "", **headers: str) -> ClientConnection:
    more = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    query = f"?token={token}" if token else ""
    return connect(f"ws://127.0.0.1:{port}/ws/runs/{run}/{query}", additional_headers=more | headers, compression=None)


def first_of(socket: ClientConnection) -> str | int:
    """Return the kind of the first frame, or the close code if no frame came."""
    try:
        return str(json.loads(socket.recv(timeout=60))["kind"])
    except ConnectionClosed as closed:
        assert closed.rcvd is not None
        return closed.rcvd.code


def answer(socket: ClientConnection, kind: str) -> dict[str, object]:
    while True:
        frame = json.loads(socket.recv(timeout=60))
        # Several events may share a frame, as an array.
        messages: list[dict[str, object]] = frame if isinstance(frame, list) else [frame]
        for message in messages:
            if message["kind"] == kind:
                return message


def flood(socket: ClientConnection, send: Callable[[], object], batch: int) -> int:
    """Send until the socket is closed, and return its code.

    Each batch is answered before the next one is sent, because a connection that ends with much unread input loses its
    close frame.
    """
    try:
        for number in range(1000):
            for _ in range(batch):
                send()
            socket.send(json.dumps({"kind": "ping", "echo": number}))
            while answer(socket, "pong").get("echo") != number:
                pass
    except ConnectionClosed as closed:
        assert closed.rcvd is not None, "the connection was cut without a close frame"
        return closed.rcvd.code
    raise AssertionError("nobody stopped it")


@contextmanager
def away(stack: Stack, *tables: str) -> Iterator[None]:
    """Remove tables, so that every query of them fails."""
    for table in tables:
        rows(stack, f"ALTER TABLE {table} RENAME TO {table}_away")
    yield
    for table in tables:
        rows(stack, f"ALTER TABLE {table}_away RENAME TO {table}")


def test_failed_handshakes_are_judged_in_memory_and_valid_ones_do_not_count(stack: Stack) -> None:
    run = create_run(stack, "run", state="running", attempt=1)
    view = token_of(stack, "owner", "view")
    for _ in range(FAILURES_BURST + 10):
        with socket_of(stack.port, run, bearer=view) as socket:
            assert first_of(socket) == "hello"
    codes = []
    while not codes or codes[-1] == 4401:
        with socket_of(stack.port, run, token="invented") as socket:
            codes.append(close_code_of(socket))
        assert len(codes) < 20 * FAILURES_BURST, "nobody stopped it"
    assert codes[-1] == 4429 and codes.count(4401) >= FAILURES_BURST
    with away(stack, "runs_usedticket", "runs_accesstoken"):
        # Each handshake that needs the database now ends with 1011. One more is allowed for each second that passes, so
        # all of them are sent at once.
        with ExitStack() as opened:
            sockets = [
                opened.enter_context(socket_of(stack.port, run, token=ending))
                for ending in [f"stm_{'x' * 43}", "x" * 43] * 4
            ]
            codes = [close_code_of(socket) for socket in sockets]
        assert 4429 in codes


def test_failures_of_a_stranger_count_against_nobody_else_at_that_address(stack: Stack) -> None:
    run = create_run(stack, "run", state="running", attempt=1)
    view, unused = token_of(stack, "owner", "view"), token_of(stack, "operator", "view")
    with socket_of(stack.port, run, bearer=view) as socket:
        assert first_of(socket) == "hello"
    used = ticket_of(stack, run, view)
    with socket_of(stack.port, run, token=used) as socket:
        assert first_of(socket) == "hello"

    def refused_after(show: dict[str, str]) -> None:
        codes = []
        while not codes or codes[-1] == 4401:
            with socket_of(stack.port, run, **show) as socket:
                codes.append(close_code_of(socket))
            assert len(codes) < 20 * FAILURES_BURST, "nobody stopped it"
        assert codes[-1] == 4429

    refused_after({"token": "invented"})
    # Visitors with a valid ticket, or a token that was valid before, are still admitted.
    for show in ({"token": ticket_of(stack, run, unused)}, {"bearer": view}):
        with socket_of(stack.port, run, **show) as socket:
            assert first_of(socket) == "hello"
    # A used ticket counts against its holder, and not against others.
    refused_after({"token": used})
    with socket_of(stack.port, run, token=ticket_of(stack, run, unused)) as socket:
        assert first_of(socket) == "hello"


def test_a_client_without_a_proxy_cannot_choose_the_address_that_counts(stack: Stack) -> None:
    run = create_run(stack, "run")
    codes = []
    while not codes or codes[-1] == 4401:
        with socket_of(stack.port, run, token="invented", **{"X-Forwarded-For": f"198.51.100.{len(codes)}"}) as socket:
            codes.append(close_code_of(socket))
        assert len(codes) < 20 * FAILURES_BURST, "nobody stopped it"
    assert codes[-1] == 4429


def test_who_comes_and_goes_is_bounded_without_the_database(stack: Stack) -> None:
    assert stack.web is not None
    stack.web.kill()
    stack.web.wait()
    stack.start_web(FEW_VISITS)
    run = create_run(stack, "run", state="running", attempt=1)
    links = share_of(stack, run), share_of(stack, run)
    by_person, by_address = VISITS_PER_PLACE["user"] * PER_USER, VISITS_PER_PLACE["address"] * PER_LINK
    made = stack.manage("shell", "-v", "0", "-c", TICKETS.format(run=run, number=by_person + 1), check=True)
    tickets = made.stdout.split()

    def visit(token: str) -> str | int:
        with socket_of(stack.port, run, token=token) as socket:
            return first_of(socket)

    assert [visit(links[0]) for _ in range(by_address + 2)] == ["hello"] * by_address + [4429] * 2
    with away(stack, "runs_usedticket", "runs_accesstoken", "auth_user"):
        # All visits of this address are used up, even for tokens that would be refused anyway.
        assert [visit(value) for value in (links[0], links[1], f"stm_{'x' * 43}")] == [4429] * 3
    # The portal counts members per person, each separately.
    assert [visit(ticket) for ticket in tickets[: by_person + 1]] == ["hello"] * by_person + [4429]
    assert visit(tickets[-1]) == "hello"


def test_a_lecture_hall_may_come_again_three_times_and_a_loop_that_comes_and_goes_is_held_back() -> None:
    now = [0.0]
    hall, loop = Handshakes(lambda: now[0]), Handshakes(lambda: now[0])
    for restart in range(3):
        for viewer in range(1000):
            now[0] += 0.003
            assert hall.let_in("192.0.2.7", "token:1"), f"viewer {viewer} after restart {restart}"
    minutes = 10
    for holder in ("", "token:1", "user:1"):
        admitted = 0
        for _ in range(200 * 60 * minutes):
            now[0] += 1 / 200
            admitted += loop.let_in("192.0.2.7", holder)
        assert admitted <= 3_000 + 30 * 60 * minutes + 1
        assert holder != "user:1" or admitted <= 300 + 3 * 60 * minutes + 1
    # The limit of a link reserves some visits for other addresses.
    assert loop.let_in("198.51.100.1", "token:1") and loop.let_in("192.0.2.7", "user:2")


def test_refused_commands_cost_no_query_and_are_bounded(stack: Stack) -> None:
    run = create_run(stack, "run", state="running", attempt=1)
    viewer = token_of(stack, "operator", "view")
    with socket_of(stack.port, run, bearer=viewer) as socket:
        assert first_of(socket) == "hello"
        with away(stack, "auth_user", "runs_membership"):
            socket.send('{"command": "stop"}')
            assert "operators and owners" in str(answer(socket, "error")["error"])
            socket.send('{"command": "stop", "arguments": {"checkpoint": 7}}')
            assert answer(socket, "error")["field"] == "checkpoint"
        refused = 0
        with pytest.raises(ConnectionClosed) as closed:
            # Fewer than the unanswered messages that a socket may send.
            while refused < 2.9 * ANSWERS_BURST:
                for _ in range(50):
                    socket.send('{"command": "stop"}')
                for _ in range(50):
                    answer(socket, "error")
                    refused += 1
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 4429
        assert refused > 0.9 * ANSWERS_BURST


@pytest.mark.parametrize(("padding", "batch"), [(0, 500), (60_000, 10)])
@pytest.mark.parametrize("kind", ["ping", "ack"])
def test_messages_of_a_socket_are_bounded_by_number_and_size(stack: Stack, kind: str, padding: int, batch: int) -> None:
    run = create_run(stack, "run", state="running", attempt=1)
    message = json.dumps({"kind": kind, "seq": 0, "padding": "x" * padding})
    with socket_of(stack.port, run, bearer=token_of(stack, "owner", "view")) as socket:
        assert first_of(socket) == "hello"
        assert flood(socket, lambda: socket.send(message), batch) == 4429


def test_pings_of_the_standard_are_bounded(stack: Stack) -> None:
    run = create_run(stack, "run", state="running", attempt=1)
    with socket_of(stack.port, run, bearer=token_of(stack, "owner", "view")) as socket:
        assert first_of(socket) == "hello"
        numbers = count()
        assert flood(socket, lambda: socket.ping(str(next(numbers))), 500) == 4429


def test_a_flood_does_not_wait_in_memory_for_a_database_that_is_slow(stack: Stack) -> None:
    run = create_run(stack, "run", state="running", attempt=1)
    with socket_of(stack.port, run, bearer=token_of(stack, "operator", "command")) as socket:
        assert first_of(socket) == "hello"
        with write_locked(stack, run), suppress(ConnectionClosed):
            # The portal cannot store this yet, so it does not read the following messages.
            socket.send('{"command": "note", "arguments": {"text": "first"}}')
            for _ in range(2 * MESSAGES_BURST):
                socket.send('{"kind": "ack", "seq": 0}')
        assert close_code_of(socket) == 4429


def test_a_crowd_of_well_behaved_pages_is_let_in_and_not_cut(stack: Stack) -> None:
    """As from a page that was away: acknowledgements, pings and new requests arrive at once."""
    run = create_run(stack, "run", state="running", attempt=1)
    with socket_of(stack.port, run, bearer=token_of(stack, "operator", "command")) as socket:
        assert first_of(socket) == "hello"
        for seq in range(2000):
            socket.send(json.dumps({"kind": "ack", "seq": seq}))
        for number in range(200):
            socket.send(json.dumps({"kind": "ping", "echo": number}))
        for number in range(50):
            socket.send(json.dumps({"command": "note", "arguments": {"text": f"note {number}"}}))
        socket.send('{"kind": "ping", "echo": "last"}')
        while answer(socket, "pong")["echo"] != "last":
            pass
    assert len(rows(stack, "SELECT id FROM runs_command WHERE run_id = ?", run)) == 50


def test_places_are_counted_over_all_portals(stack: Stack, second: int) -> None:
    first = int(stack.environment["STEERSMAN_PORT"])
    run = create_run(stack, "run", state="running", attempt=1)
    shared = share_of(stack, run)
    view = {name: token_of(stack, name, "view") for name in ("owner", "operator")}

    def enters(port: int, **key: str) -> bool:
        with socket_of(port, run, **key) as socket:
            return first_of(socket) == "hello"

    def refused(port: int, **key: str) -> bool:
        with socket_of(port, run, **key) as socket:
            return first_of(socket) == 4429

    with ExitStack() as opened:

        def hold(port: int, **key: str) -> ClientConnection:
            socket = opened.enter_context(socket_of(port, run, **key))
            assert first_of(socket) == "hello"
            return socket

        mine = [hold(first, bearer=view["owner"]) for _ in range(PER_USER)]
        assert refused(first, bearer=view["owner"])
        wait_for(lambda: refused(second, bearer=view["owner"]), "the other portal to hear of it")
        assert enters(second, bearer=view["operator"]), "another user is not counted with them"
        for _ in range(PER_LINK):
            hold(second, token=shared)
        wait_for(lambda: refused(first, token=shared), "the first portal to hear of the link")
        hold(first, bearer=view["operator"])
        # All places are taken, and the portal refuses strangers before it queries the database.
        with away(stack, "runs_usedticket", "runs_accesstoken", "auth_user"):
            wait_for(lambda: refused(second, token="invented"), "the other portal to know that all is full")
            assert refused(first, token="invented")
        mine[0].close()
        wait_for(lambda: enters(second, bearer=view["owner"]), "the place to be free again")


def test_the_places_of_a_portal_that_ended_are_free(stack: Stack, second: int) -> None:
    run = create_run(stack, "run", state="running", attempt=1)
    first = int(stack.environment["STEERSMAN_PORT"])
    view = token_of(stack, "owner", "view")

    def enters() -> bool:
        with socket_of(first, run, bearer=view) as socket:
            return first_of(socket) == "hello"

    def fill() -> None:
        for _ in range(PER_USER):
            socket = opened.enter_context(socket_of(second, run, bearer=view))
            assert first_of(socket) == "hello"
        wait_for(lambda: not enters(), "the first portal to hear of it")

    assert stack.web is not None
    with ExitStack() as opened:
        fill()
        stack.web.terminate()
        stack.web.wait(timeout=60)
        # The first portal may have a row from the earlier sockets that were refused.
        left = [str(row["counts"]) for row in rows(stack, "SELECT counts FROM runs_socketcounts")]
        assert not any(str(PER_USER) in counts for counts in left), "an orderly end leaves nothing behind"
        wait_for(enters, "the places of a portal that ended in order")
        stack.start_web()
        fill()
        stack.web.kill()
        stack.web.wait(timeout=60)
        wait_for(enters, "the places of a portal that was killed")


def test_without_the_table_own_counts_decide(stack: Stack) -> None:
    run = create_run(stack, "run", state="running", attempt=1)
    view = token_of(stack, "owner", "view")
    with away(stack, "runs_socketcounts"), ExitStack() as opened:
        for _ in range(PER_USER):
            assert first_of(opened.enter_context(socket_of(stack.port, run, bearer=view))) == "hello"
        assert first_of(opened.enter_context(socket_of(stack.port, run, bearer=view))) == 4429
