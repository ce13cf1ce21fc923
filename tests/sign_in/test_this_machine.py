"""In debug mode, a server started by hand on all addresses only answers this machine."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from monitor_site.addresses import lan_addresses
from monitor_site.environment.this_machine import is_from_here
from tests.support.stack import ROOT, Stack, seed_stack

HERE = ("127.0.0.1", 50_000)


@pytest.fixture(scope="module")
def open_to_all() -> Iterator[Stack]:
    with Stack(STEERSMAN_DEBUG="1", STEERSMAN_HOSTS="localhost,127.0.0.1,lab.example.org") as stack:
        seed_stack(stack)
        command = [sys.executable, "-m", "daphne", "-b", "0.0.0.0", "-p", str(stack.port)]
        with (stack.folder / "web.log").open("ab") as log:
            stack.web = subprocess.Popen(
                [*command, "monitor_site.asgi:application"], env=stack.environment, cwd=ROOT, stdout=log, stderr=log
            )
        stack.wait_for_web()
        yield stack


def answer(address: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=60) as page:
            return int(page.status), page.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def test_only_who_asks_from_this_machine_gets_a_page(open_to_all: Stack) -> None:
    port = open_to_all.port
    for host in ("127.0.0.1", "localhost"):
        assert answer(f"http://{host}:{port}/login/")[0] == 200, host
    refused = [answer(f"http://{address}:{port}/login/") for address in lan_addresses("0.0.0.0")[:1]]
    refused += [
        answer(f"{open_to_all.address}/login/", **headers)
        for headers in ({"Host": "lab.example.org"}, {"X-Forwarded-For": "192.0.2.7"}, {"Host": "evil.example.org"})
    ]
    for status, text in refused:
        assert status == 403 and "Unset STEERSMAN_DEBUG" in text and "<html" not in text


def test_sockets_are_refused_alike(open_to_all: Stack) -> None:
    socket = open_to_all.address.replace("http", "ws") + "/ws/runs/1/"
    with pytest.raises(InvalidStatus) as refused:
        connect(socket, additional_headers={"X-Forwarded-For": "192.0.2.7"}, open_timeout=60)
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    ("client", "headers", "is_here"),
    [
        (HERE, {b"host": b"localhost:8765"}, True),
        (("::1", 1), {b"host": b"[::1]:8765"}, True),
        (("::ffff:127.0.0.1", 1), {b"host": b"127.0.0.1"}, True),
        (HERE, {}, True),
        (None, {b"host": b"localhost"}, False),
        (("192.0.2.7", 1), {b"host": b"localhost"}, False),
        (("::ffff:192.0.2.7", 1), {b"host": b"localhost"}, False),
        (HERE, {b"host": b"localhost.example.org"}, False),
        (HERE, {b"host": b"[2001:db8::1]:8765"}, False),
        (HERE, {b"host": b""}, False),
        (HERE, {b"host": b"localhost", b"Forwarded": b"for=192.0.2.7"}, False),
    ],
)
def test_it_knows_who_asks_from_this_machine(
    client: tuple[str, int] | None, headers: dict[bytes, bytes], is_here: bool
) -> None:
    scope = {"type": "http", "client": client, "headers": list(headers.items())}
    assert is_from_here(scope) is is_here
