"""Chromium for browser tests and benches: its flags, logging in, and the errors in its console."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.stack import Stack

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

# By address, name and password, because hashing a password takes longer than most pages.
_COOKIES: dict[tuple[str, str, str], list[Any]] = {}


def log_in(page: Page, address: str, name: str, password: str) -> None:
    """Log in by the form, once for each person: later pages get the cookies. Ends on the list of runs."""
    person = address, name, password
    if person in _COOKIES:
        page.context.add_cookies(_COOKIES[person])
        page.goto(f"{address}/")
        return
    page.goto(f"{address}/login/")
    page.fill("input[name=username]", name)
    page.fill("input[name=password]", password)
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/login/" not in url)
    _COOKIES[person] = page.context.cookies()


def open_run(chromium: Browser, stack: Stack, name: str, viewport: dict[str, int], theme: str = "light") -> Page:
    """Return the live page of run 1 as `name`, whose password is the same, in a context of its own."""
    context = chromium.new_context(viewport=viewport, color_scheme=theme, locale="en-GB")  # type: ignore[arg-type]
    page = context.new_page()
    log_in(page, stack.address, name, name)
    page.goto(f"{stack.address}/runs/1/")
    expect(page.get_by_test_id("run")).to_have_attribute("data-link", "live")
    return page


def settled_picture(chart: Locator) -> str:
    """Return the content of a chart's canvas once some frames in a row have drawn the same."""
    picture = """async (canvas) => {
        const frame = () => new Promise(requestAnimationFrame);
        let before = "", same = 0;
        while (same < 4) {
            await frame();
            const now = canvas.toDataURL();
            same = now === before ? same + 1 : 0;
            before = now;
        }
        return before;
    }"""
    return str(chart.locator("canvas").evaluate(picture))


class Complaints:
    """Errors and breaches of the content security policy in the browser's console."""

    def __init__(self, page: Page) -> None:
        self.lines: list[str] = []
        page.on(
            "console", lambda message: self._note(message.type, f"{message.text} {message.location.get('url', '')}")
        )
        page.on("pageerror", lambda error: self.lines.append(str(error)))

    def _note(self, kind: str, text: str) -> None:
        if kind == "error" or "Content Security Policy" in text:
            self.lines.append(text)


@contextmanager
def operators_page(chromium: Browser, address: str, **options: Any) -> Iterator[Page]:
    """A page where the operator is logged in; fails at its end if the browser's console has errors."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB", **options)
    page = context.new_page()
    complaints = Complaints(page)
    log_in(page, address, "operator", "operator")
    yield page
    assert not complaints.lines, complaints.lines
    context.close()
