"""The main use case: `make demo`, log in, watch the loss, stop, find the run in the admin."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import Complaints, log_in
from tests.support.stack import ROOT, free_port, wait_for


class Demo:
    """A demo with its own data folder and port, and its output."""

    def __init__(self) -> None:
        self.data = Path(tempfile.mkdtemp(prefix="steersman-demo-"))
        self.port = free_port()
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("STEERSMAN_", "DJANGO_"))
        }
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "demo"],
            env=environment | {"STEERSMAN_DATA": str(self.data), "STEERSMAN_PORT": str(self.port)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait_for_line(self, pattern: str) -> re.Match[str]:
        def found() -> re.Match[str] | None:
            if self.process.poll() is not None:
                raise AssertionError("the demo ended:\n" + "\n".join(self.lines))
            return next((match for line in list(self.lines) if (match := re.fullmatch(pattern, line))), None)

        return wait_for(found, f"{pattern}, printed so far: {self.lines}", timeout_s=180)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        shutil.rmtree(self.data, ignore_errors=True)


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    running = Demo()
    yield running
    running.stop()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1440, "height": 1000}, locale="en-GB")
    yield context.new_page()
    context.close()


def points_of(page: Page, series: str) -> int:
    return int(page.locator(f'[data-testid=chart][data-series~="{series}"]').first.get_attribute("data-points") or 0)


def test_the_operator_watches_the_loss_and_stops_the_run(demo: Demo, page: Page, screenshots: Path) -> None:
    complaints = Complaints(page)
    address = demo.wait_for_line(r"portal (http://\S+?)/?").group(1)
    logins = {
        role: demo.wait_for_line(rf"login {role} (\S+) (\S+)").groups() for role in ("operator", "viewer", "admin")
    }
    run_id, run_address = demo.wait_for_line(r"run (\d+) (http://\S+)").groups()

    log_in(page, address, *logins["operator"])
    expect(page.get_by_test_id("run-row").first).to_be_visible()
    page.screenshot(path=screenshots / "runs.png")
    page.goto(run_address)
    expect(page.get_by_test_id("run")).to_have_attribute("data-link", "live")
    expect(page.get_by_test_id("state")).to_have_attribute("data-state", "running")

    chart = '[data-testid=chart][data-series~="train/loss"]'
    page.wait_for_selector(chart)
    wait_for(lambda: points_of(page, "train/loss") > 5, "the first points of the loss curve")
    seen = points_of(page, "train/loss")
    for _ in range(3):
        wait_for(lambda seen=seen: points_of(page, "train/loss") > seen, f"a curve of more than {seen} points")
        seen = points_of(page, "train/loss")
    expect(page.get_by_test_id("step")).not_to_have_text("0")
    page.screenshot(path=screenshots / "run.png")
    page.screenshot(path=screenshots / "run-full.png", full_page=True)

    page.emulate_media(color_scheme="dark")
    page.reload()
    expect(page.get_by_test_id("run")).to_have_attribute("data-link", "live")
    wait_for(lambda: points_of(page, "train/loss") >= seen, "the curve after a reload")
    page.screenshot(path=screenshots / "run-dark.png")
    page.emulate_media(color_scheme="light")

    page.get_by_test_id("stop").click()
    page.get_by_test_id("stop-confirm").click()
    expect(page.get_by_test_id("state")).to_have_attribute("data-state", "stopped")
    page.screenshot(path=screenshots / "run-stopped.png", full_page=True)
    assert not complaints.lines

    page.context.clear_cookies()
    log_in(page, address, *logins["admin"])
    page.goto(f"{address}/admin/runs/run/")
    expect(page.locator("#result_list")).to_contain_text("stopped", ignore_case=True)
    page.screenshot(path=screenshots / "admin-runs.png")
    page.goto(f"{address}/admin/runs/run/{run_id}/change/")
    expect(page.locator("body")).to_contain_text("stop")
    expect(page.locator("svg[role=img]").first).to_be_visible()
    page.screenshot(path=screenshots / "admin-run.png", full_page=True)


def test_a_viewer_watches_on_a_phone_and_cannot_stop(demo: Demo, chromium: Browser, screenshots: Path) -> None:
    address = demo.wait_for_line(r"portal (http://\S+?)/?").group(1)
    name, password = demo.wait_for_line(r"login viewer (\S+) (\S+)").groups()
    run_address = demo.wait_for_line(r"run (\d+) (http://\S+)").group(2)
    context = chromium.new_context(viewport={"width": 375, "height": 740}, device_scale_factor=2)
    page = context.new_page()
    log_in(page, address, name, password)
    page.screenshot(path=screenshots / "phone-runs.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.goto(run_address)
    expect(page.get_by_test_id("run")).to_have_attribute("data-link", "live")
    expect(page.get_by_test_id("stop")).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.screenshot(path=screenshots / "phone-run.png", full_page=True)
    context.close()


def test_ctrl_c_ends_every_process_of_the_demo(demo: Demo) -> None:
    demo.wait_for_line(r"portal (http://\S+?)/?")
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 0

    def left() -> list[str]:
        mark = f"STEERSMAN_DATA={demo.data}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return found

    wait_for(lambda: not left(), f"the end of {left()}", timeout_s=60)
