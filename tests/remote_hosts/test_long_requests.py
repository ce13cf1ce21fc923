"""`/ws/hosts/` by plain requests: lost answers, repeated and reordered requests, refusals, and the end of a link."""

from __future__ import annotations

import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from urllib.parse import urlencode

import pytest

import steersman
from steersman.agent.links.connections import WEBSOCKET, HandshakeFailed, wanted_link
from steersman.agent.links.long_requests import LongRequests
from steersman.agent.links.websocket import WebSocket
from steersman.agent.remote import portal_link
from steersman.agent.remote.portal_link import PortalLink
from steersman.messages.link import FromHost, LinkCut
from steersman.messages.reports import Attach, Attached, Stored
from steersman.portal.logins import Login
from steersman.portal.requests import PortalError, Refused, Unreachable
from steersman.starting.messages import Place
from steersman.wire.codec import decode, encode
from steersman.wire.framing import LARGEST_PIECE_BYTES, Frames, framed
from tests.remote_hosts.a_host import PROTOCOL, Opened, open_run, points, train_token
from tests.support.stack import Stack, events, seed_stack, wait_for


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack() as stack:
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


class Requests:
    """The requests of one link, each as often and in the order that a test wants."""

    def __init__(self, stack: Stack, token: str, opened: Opened) -> None:
        self._stack, self.token = stack, token
        self.words: dict[str, object] = {
            "run": opened.run, "attempt": opened.attempt, "link": secrets.token_hex(16), "protocol": PROTOCOL
        }  # fmt: skip
        self.version = steersman.__version__

    def ask(self, method: str, at: object = 0, data: bytes | None = None) -> tuple[int, bytes]:
        """Return status and body of the answer."""
        headers = {"Authorization": f"Bearer {self.token}", "Steersman-Version": self.version}
        address = f"{self._stack.address}/ws/hosts/?{urlencode(self.words | {'at': at})}"
        request = urllib.request.Request(address, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def read(self, at: int) -> tuple[list[object], int]:
        """Return the next messages after a place of the stream, and the place after them."""
        status, data = self.ask("GET", at)
        assert status == 200, data
        return [decode(each) for each in Frames().take(data)], at + len(data)


def piece(message: FromHost) -> bytes:
    return framed(encode(message))


def steps_of(stack: Stack, opened: Opened) -> list[int]:
    blocks = [block for event in events(stack, opened.run, "metrics") for block in event["blocks"]]
    return [step for block in blocks for step in block["steps"]]


def test_requests_that_arrive_again_or_too_early_change_nothing(stack: Stack, token: str, opened: Opened) -> None:
    link = Requests(stack, token, opened)
    assert link.ask("PUT") == link.ask("PUT") == (200, b"{}")
    first = piece(Attach("one", []))
    assert link.ask("POST", 0, first) == link.ask("POST", 0, first)
    (attached,), place = link.read(0)
    assert isinstance(attached, Attached) and attached.session == 1
    # The answer was lost: the same is asked again.
    assert link.read(0) == ([attached], place)
    report = piece(points(attached, 1, [1, 2]))
    assert link.ask("POST", len(first) + 5, report[5:])[0] == 409
    assert link.ask("POST", len(first), report[:5]) == (200, b'{"arrived": %d}' % (len(first) + 5))
    # It overlaps with what has arrived.
    assert link.ask("POST", len(first), report)[0] == 200
    assert link.ask("POST", len(first), report)[0] == 200
    (stored,), _ = link.read(place)
    assert isinstance(stored, Stored) and stored.number == 1
    # The host has confirmed what stands before `place`.
    assert link.ask("GET", 0)[0] == 409 and link.ask("GET", place + 1_000_000)[0] == 409
    assert steps_of(stack, opened) == [1, 2]


def test_a_link_belongs_to_the_token_that_opened_it_and_ends_once(stack: Stack, token: str, opened: Opened) -> None:
    link = Requests(stack, token, opened)
    assert link.ask("POST", 0, b"x")[0] == 410
    assert link.ask("PUT")[0] == 200
    link.token = "stm_stolen"
    for method in ("PUT", "GET", "POST", "DELETE"):
        assert link.ask(method)[0] == 410
    link.token = token
    assert link.ask("POST", 0, piece(Attach("one", [])))[0] == 200
    assert link.ask("POST", "x")[0] == 422
    assert link.ask("POST", 0, bytes(2 * LARGEST_PIECE_BYTES))[0] in (404, 413)
    assert link.ask("DELETE")[0] == 200
    for method in ("PUT", "POST", "DELETE"):
        assert json.loads(link.ask(method)[1])["code"] == 1006


def test_a_refusal_has_the_code_that_would_close_a_websocket(stack: Stack, token: str, opened: Opened) -> None:
    link = Requests(stack, token, opened)
    for attribute, value, code in (("token", "stm_invented", 4401), ("version", "99.1.0", 4426), ("version", "", 4426)):
        known = getattr(link, attribute)
        setattr(link, attribute, value)
        status, body = link.ask("PUT")
        assert (status, json.loads(body)["code"]) == (410, code)
        setattr(link, attribute, known)
    link.words["run"] = 10**9
    assert json.loads(link.ask("PUT")[1])["code"] == 4404
    link.words["link"] = "short"
    assert link.ask("PUT")[0] == 422
    del link.words["link"]
    # As it arrives if a proxy takes the upgrade away.
    assert link.ask("GET")[0] == 426


def test_a_revoked_token_ends_its_link_while_it_waits(stack: Stack, opened: Opened) -> None:
    token = train_token(stack)
    with closing(LongRequests(Login(stack.address, token), opened.run, opened.attempt)) as link:
        link.send(encode(Attach("one", [])))
        assert isinstance(decode(link.recv()), Attached)
        revoking = "from runs.access.tokens import find_token, revoke; from runs.models import TokenScope"
        stack.manage("shell", "-v", "0", "-c", f"{revoking}; revoke(find_token({token!r}, TokenScope.values))")
        with pytest.raises(Refused, match="unknown, expired or revoked"):
            link.recv()


def test_a_message_that_is_larger_than_a_piece_arrives(stack: Stack, token: str, opened: Opened) -> None:
    with closing(LongRequests(Login(stack.address, token), opened.run, opened.attempt)) as link:
        link.send(encode(Attach("x" * 5 * LARGEST_PIECE_BYTES, [])))
        attached = decode(link.recv())
        assert isinstance(attached, Attached) and len(attached.token) == 5 * LARGEST_PIECE_BYTES


@dataclass
class Watcher:
    """What a person is told."""

    said: list[str] = field(default_factory=list)

    def lost_portal(self, problem: PortalError) -> None: ...

    def reached_portal(self) -> None: ...

    def say(self, text: str) -> None:
        self.said.append(text)


def attached_over(link: PortalLink, token: str) -> Attached:
    """Return the answer to `attach` on the next connection of a link."""

    def is_new() -> bool:
        try:
            link.receive()
        except LinkCut:
            return True
        return False

    wait_for(is_new, "a connection")
    link.send(Attach(token, []))
    [attached] = wait_for(link.receive, "an answer")
    assert isinstance(attached, Attached)
    return attached


@pytest.mark.parametrize(("is_certain", "tries"), [(True, 1), (False, 3)])
def test_a_link_uses_requests_while_no_websocket_gets_through_and_a_websocket_afterwards(
    stack: Stack, token: str, opened: Opened, monkeypatch, is_certain: bool, tries: int
) -> None:
    over: list[str] = []

    def websocket(login: Login, run: int, attempt: int) -> WebSocket:
        if over.count("broken") < tries:
            over.append("broken")
            raise HandshakeFailed(Unreachable("no upgrade"), "status 400", is_certain=is_certain)
        over.append("websocket")
        return WebSocket(login, run, attempt)

    class Requests(LongRequests):
        def __init__(self, login: Login, run: int, attempt: int) -> None:
            super().__init__(login, run, attempt)
            over.append("requests")

    monkeypatch.setattr(portal_link, "WebSocket", websocket)
    monkeypatch.setattr(portal_link, "LongRequests", Requests)
    # A WebSocket is tried again at once.
    monkeypatch.setattr(portal_link, "REQUESTS_FOR_S", 0.0)
    watcher = Watcher()
    place = Place(opened.run, opened.attempt)
    link = PortalLink(Login(stack.address, token), lambda: place, watcher, lambda: None)
    link.start()
    try:
        assert attached_over(link, "one").session == 1
        assert attached_over(link, "two").session == 2
    finally:
        link.stop()
    assert over == ["broken"] * tries + ["requests", "websocket", "websocket"]
    (text,) = watcher.said
    assert "(status 400), perhaps because of a proxy" in text


def test_what_is_no_portal_is_refused_and_what_is_away_is_asked_again(stack: Stack) -> None:
    with pytest.raises(Refused, match="No Steersman portal answers"):
        LongRequests(Login(f"{stack.address}/elsewhere", "stm_x"), 1, 1)
    with pytest.raises(Unreachable):
        LongRequests(Login("http://127.0.0.1:9", "stm_x"), 1, 1)
    with pytest.raises(Refused, match="give auto, websocket, https"):
        wanted_link({"STEERSMAN_LINK": "pigeon"})
    assert wanted_link({"STEERSMAN_LINK": " WebSocket "}) == WEBSOCKET
