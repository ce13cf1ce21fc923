"""The portal under a path prefix in a browser: behind a proxy that removes the prefix, and one that passes it on."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import operators_page
from tests.support.stack import ROOT, Stack, create_run, rows, seed_stack, wait_for

PREFIX = "/lab/steersman"
ENDLESS = (str(ROOT / "tests" / "trainings" / "short.py"), "1000000", "0.05")


class Proxy:
    """Forwards bytes, one request per connection, so that each head can be changed."""

    def __init__(self, portal: int, strips: bool) -> None:
        self.portal, self.strips = portal, strips
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self.listening.accept()[0]
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        head = b""
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", self.portal)) as behind:
            while b"\r\n\r\n" not in head:
                part = client.recv(65536)
                if not part:
                    return
                head += part
            lines, _, rest = head.partition(b"\r\n\r\n")
            first, *headers = lines.split(b"\r\n")
            method, path, version = first.split(b" ")
            assert path.startswith(PREFIX.encode()), path
            if self.strips:
                path = path.removeprefix(PREFIX.encode()) or b"/"
            kept = [line for line in headers if not line.lower().startswith(b"connection:")]
            kept.append(b"Connection: " + (b"Upgrade" if b"websocket" in lines.lower() else b"close"))
            behind.sendall(b"\r\n".join([b" ".join([method, path, version]), *kept]) + b"\r\n\r\n" + rest)
            back = threading.Thread(target=_pass_on, args=(behind, client), daemon=True)
            back.start()
            _pass_on(client, behind)
            back.join()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while part := one.recv(65536):
            other.sendall(part)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def prefixed() -> Iterator[tuple[Stack, int]]:
    with Stack(STEERSMAN_PREFIX=PREFIX) as stack:
        seed_stack(stack)
        stack.start_redis()
        stack.start_web()
        run_id = create_run(stack)
        stack.train(run_id, "--quiet", "--", *ENDLESS)
        wait_for(lambda: rows(stack, "SELECT step FROM runs_run WHERE id = ?", run_id)[0]["step"] > 3, "points")
        yield stack, run_id


@pytest.mark.parametrize("strips", [True, False], ids=["cut off", "handed on"])
def test_it_is_seen_live_under_a_path(prefixed: tuple[Stack, int], chromium: Browser, strips: bool) -> None:
    stack, run_id = prefixed
    proxy = Proxy(stack.port, strips)
    address = f"http://127.0.0.1:{proxy.port}{PREFIX}"
    with operators_page(chromium, address) as page:
        expect(page).to_have_url(f"{address}/")
        page.locator(f"#runs a[href='{PREFIX}/runs/{run_id}/']").first.click()
        expect(page.locator("#link[data-link=live]")).to_be_attached()
        chart = page.locator("[data-testid=chart]").first
        chart.scroll_into_view_if_needed(timeout=60_000)
        expect(chart.locator("canvas").first).to_be_visible()
        assert {cookie["path"] for cookie in page.context.cookies()} == {f"{PREFIX}/"}
    proxy.close()


def test_no_header_chooses_where_links_lead(prefixed: tuple[Stack, int]) -> None:
    stack, _ = prefixed
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=60)
    connection.request("GET", "/login/", headers={"Daphne-Root-Path": "/elsewhere"})
    body = connection.getresponse().read().decode()
    assert "/elsewhere" not in body and f'action="{PREFIX}/login/"' in body
    connection.close()
