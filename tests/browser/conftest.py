"""A real Chromium for the browser tests, and a folder for its screenshots."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Playwright, expect

import steersman
from tests.client_packages.small_wheel import write_wheel
from tests.support.browser import FLAGS
from tests.support.stack import ROOT, Stack

Places = dict[str, Any]

OUTPUT = ROOT / "build" / "screenshots"
# A busy machine is not an error of the page: no assertion and no action waits less.
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "chromium is missing: apt-get install chromium"
    browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
    new_context = browser.new_context

    def patient_context(**options: Any) -> BrowserContext:
        context = new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        return context

    browser.new_context = patient_context  # type: ignore[method-assign]
    yield browser
    browser.close()


@pytest.fixture
def screenshots() -> Path:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    return OUTPUT


@pytest.fixture(scope="session")
def places(stack: Stack) -> Places:
    """The ids of the objects of `tests.browser.seed` in the stack, by name."""
    stack.manage("recipes", "--publish")
    done = stack.manage("shell", "-v", "0", "-c", "from tests.browser.seed import seed; seed()")
    write_wheel(stack.folder / "client-packages", steersman.__version__)
    found: Places = json.loads(done.stdout.strip().splitlines()[-1])
    return found
