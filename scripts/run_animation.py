"""Record docs/images/run.gif from the real page: the demo's training learns slowly until its learning rate is raised.

Run it as `.venv/bin/python scripts/run_animation.py`. It needs chromium, and takes about two minutes.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs" / "images" / "run.gif"
VIEWPORT = {"width": 1400, "height": 880}
GIF_WIDTH = 1000
COLOURS = 256
FRAME_MS = 400
LAST_FRAME_MS = 3000
# So low that the loss hardly falls until the slider raises it.
LOW_RATE = "0.00002"
SLIDER_END = 0.55
FIRST_STEP = 150
FRAMES_BEFORE, FRAMES_OF_DRAG, FRAMES_AFTER = 6, 6, 26
START_TIMEOUT_MS = 120_000
# Screenshots do not show the pointer, so a ring follows it.
POINTER = """() => {
  const ring = document.createElement("div");
  Object.assign(ring.style, { position: "fixed", width: "18px", height: "18px", borderRadius: "50%", zIndex: 9999,
    border: "3px solid #d63939", transform: "translate(-50%, -50%)", pointerEvents: "none", left: "-50px" });
  document.body.append(ring);
  addEventListener("pointermove", (event) => {
    ring.style.left = `${event.clientX}px`;
    ring.style.top = `${event.clientY}px`;
  }, true);
}"""


@contextmanager
def demo() -> Iterator[dict[str, str]]:
    """Start the demo with a slow training; yield the address of its run and the operator's password."""
    with tempfile.TemporaryDirectory() as data, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
        probe.close()
        environment = os.environ | {"STEERSMAN_DATA": data, "STEERSMAN_PORT": port, "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "manage.py", "demo", "--set", f"learning_rate={LOW_RATE}", "--set", "warmup_steps=1"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout
            found: dict[str, str] = {}
            for line in process.stdout:
                if login := re.match(r"login operator operator (\S+)", line):
                    found["password"] = login[1]
                if run := re.match(r"run \d+ (http\S+)", line):
                    found["run"] = run[1]
                    break
            yield found
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()


def log_in(page: Page, run: str, password: str) -> None:
    page.goto(run)
    page.fill("input[name=username]", "operator")
    page.fill("input[name=password]", password)
    page.keyboard.press("Enter")
    page.wait_for_url(run)
    page.evaluate(POINTER)


def wait_for_step(page: Page, step: int) -> None:
    has_come = """(step) => [...document.querySelectorAll("main *")].some((each) => !each.children.length
      && /^\\d+ \\/ \\d+$/.test(each.textContent.trim()) && Number.parseInt(each.textContent, 10) >= step)"""
    page.wait_for_function(has_come, arg=step, timeout=START_TIMEOUT_MS)


class Recorder:
    """Takes screenshots of a page at a steady pace."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.frames: list[Image.Image] = []

    def take(self, count: int = 1) -> None:
        for _ in range(count):
            picture = Image.open(BytesIO(self._page.screenshot(animations="allow"))).convert("RGB")
            height = round(picture.height * GIF_WIDTH / picture.width)
            self.frames.append(picture.resize((GIF_WIDTH, height), Image.Resampling.LANCZOS))
            self._page.wait_for_timeout(FRAME_MS)

    def write(self, path: Path) -> None:
        """Write an animation with one palette for all screenshots, so that unchanged parts take no bytes."""
        width, height = self.frames[0].size
        samples = self.frames[:: len(self.frames) // 4]
        sheet = Image.new("RGB", (width, height * len(samples)))
        for place, frame in enumerate(samples):
            sheet.paste(frame, (0, height * place))
        palette = sheet.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        pictures = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self.frames]
        durations = [FRAME_MS] * (len(pictures) - 1) + [LAST_FRAME_MS]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True)


def drag(page: Page, slider: Locator, recorder: Recorder) -> None:
    """Move the slider to `SLIDER_END` of its length, and take a screenshot after each part of the way."""
    box = slider.bounding_box()
    assert box
    value, most = float(slider.input_value()), float(slider.get_attribute("max") or 100)
    height, begin, end = box["y"] + box["height"] / 2, value / most, SLIDER_END
    page.mouse.move(box["x"] + box["width"] * begin, height)
    recorder.take()
    page.mouse.down()
    for part in range(1, FRAMES_OF_DRAG + 1):
        page.mouse.move(box["x"] + box["width"] * (begin + (end - begin) * part / FRAMES_OF_DRAG), height, steps=4)
        recorder.take()
    page.mouse.up()


def main() -> None:
    with demo() as found, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_context(viewport=VIEWPORT, locale="en-GB").new_page()
        log_in(page, found["run"], found["password"])
        row = page.locator('[data-testid=knob][data-knob="learning_rate"]').first
        expect(row.get_by_test_id("knob-slider")).to_be_visible(timeout=START_TIMEOUT_MS)
        wait_for_step(page, FIRST_STEP)
        recorder = Recorder(page)
        recorder.take(FRAMES_BEFORE)
        drag(page, row.get_by_test_id("knob-slider"), recorder)
        recorder.take(FRAMES_AFTER)
        recorder.write(OUTPUT)
        browser.close()
    print(f"{OUTPUT.relative_to(ROOT)}: {OUTPUT.stat().st_size / 1e6:.1f} MB, {len(recorder.frames)} pictures")


if __name__ == "__main__":
    main()
