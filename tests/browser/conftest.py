"""A real Chromium for the browser tests, and a place for what it saw."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright

from tests.support.stack import ROOT, Stack

Places = dict[str, Any]

OUTPUT = ROOT / "build" / "screenshots"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "chromium is missing: apt-get install chromium"
    browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
    yield browser
    browser.close()


@pytest.fixture
def screenshots() -> Path:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    return OUTPUT


@pytest.fixture(scope="session")
def places(stack: Stack) -> Places:
    """Where the things of `tests.browser.seed` lie in the stack, by name."""
    stack.manage("recipes", "--publish")
    done = stack.manage("shell", "-v", "0", "-c", "from tests.browser.seed import seed; seed()")
    found: Places = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def log_in(page: Page, address: str, name: str, password: str) -> None:
    page.goto(f"{address}/login/")
    page.fill("input[name=username]", name)
    page.fill("input[name=password]", password)
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/login/" not in url)


class Complaints:
    """What the browser's console complained of: errors, and breaches of the content security policy."""

    def __init__(self, page: Page) -> None:
        self.lines: list[str] = []
        page.on(
            "console", lambda message: self._hear(message.type, f"{message.text} {message.location.get('url', '')}")
        )
        page.on("pageerror", lambda error: self.lines.append(str(error)))

    def _hear(self, kind: str, text: str) -> None:
        if kind == "error" or "Content Security Policy" in text:
            self.lines.append(text)
