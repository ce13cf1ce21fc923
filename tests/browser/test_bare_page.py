"""The page of `docs/protocol.md` without any of our JavaScript: it shows a run, and stops it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import log_in
from tests.support.stack import ROOT, Stack, run_row, seed_stack, wait_for

TEXT = (ROOT / "docs" / "protocol.md").read_text()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """Another origin that serves the page from the document."""
    (page,) = re.findall(r"```html\n(.*?)```", TEXT, re.DOTALL)
    (script,) = re.findall(r"<script>\n(.*?)</script>", page, re.DOTALL)
    assert len(script.splitlines()) <= 15
    (tmp_path / "page.html").write_text(page)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def driver(tmp_path: Path) -> str:
    """A stub of the NVIDIA driver's library, so that there is a GPU to show."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "gcc is missing: apt-get install gcc"
    library = tmp_path / "libnvidia-ml.so.1"
    source = ROOT / "tests" / "support" / "nvml_stub" / "nvml_stub.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return str(tmp_path)


def test_it_shows_a_run_and_stops_it(chromium: Browser, elsewhere: str, driver: str) -> None:
    with Stack(STEERSMAN_ORIGINS=elsewhere) as stack:
        seed_stack(stack)
        stack.manage("recipes", "--publish")
        create = (
            "create_run",
            "--quiet",
            "--project",
            "lab",
            "--recipe",
            "digits",
            "--set",
            "epochs=100000",
            "--user",
            "operator",
        )
        run_id = int(stack.manage(*create).stdout)
        stack.start_redis()
        stack.start_web()
        stack.train(run_id, "--quiet", LD_LIBRARY_PATH=driver)
        wait_for(lambda: run_row(stack, run_id)["epoch"] > 0, lambda: f"an epoch\n{stack.log()}")

        context = chromium.new_context()
        page = context.new_page()
        log_in(page, stack.address, "operator", "operator")
        token = page.evaluate(
            """async (run) => {
                const headers = {"X-CSRFToken": document.querySelector("[name=csrfmiddlewaretoken]").value};
                const answer = await fetch("/api/tickets/", {method: "POST", headers, body: JSON.stringify({run})});
                return (await answer.json()).ticket;
            }""",
            run_id,
        )
        assert token, json.dumps(page.url)
        page.goto(f"{elsewhere}/page.html#{stack.address.replace('http', 'ws')},{run_id},{token}")
        expect(page.locator("#status")).to_have_text("running")
        for name, pattern in (("epoch", r"\d+"), ("loss", r"\d"), ("accuracy", r"\d"), ("gpu", r"\d")):
            expect(page.locator(f"#{name}")).to_have_text(re.compile(pattern))
        page.click("#stop")
        expect(page.locator("#status")).to_have_text("stopped")
        context.close()
