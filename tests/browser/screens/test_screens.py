"""The main pages in light and dark, on a phone and on a wide screen, in English and Chinese: nothing is cut off.

The pictures of a run of this file are in build/screenshots/screens/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Places
from tests.support.browser import log_in
from tests.support.stack import Stack

RUN = "[data-link=live]:has(.stat-value):has([data-testid=chart] canvas)"
LAPTOP = {"width": 1280, "height": 900}

# By name: the address, and a selector that matches once the page is drawn.
PAGES: dict[str, tuple[Callable[[Places], str], str]] = {
    "run": (lambda places: f"/runs/{places['live']}/", RUN),
    # On a phone its charts are far below: they are drawn once they are near.
    "run-failed": (lambda places: f"/runs/{places['ended']}/", "[data-link=live]:has(.stat-value)"),
    "list": (lambda _: "/?project=pages&q=e", "[data-testid=run-row]"),
    "compare": (
        lambda places: f"/runs/compare/?run={places['live']}&run={places['ended']}",
        "[data-testid=chart] canvas",
    ),
    "project": (lambda _: "/projects/pages/", "h1"),
    "new-run": (lambda _: "/runs/new/", "main form"),
    "alerts": (lambda _: "/projects/pages/alerts/", "h1"),
}


@dataclass(frozen=True, slots=True)
class Look:
    name: str
    theme: Literal["light", "dark"]
    viewport: dict[str, int]


LOOKS = (
    Look("light", "light", LAPTOP),
    Look("dark", "dark", LAPTOP),
    Look("phone", "light", {"width": 390, "height": 844}),
    Look("wide", "light", {"width": 2560, "height": 1440}),
)


@pytest.fixture(scope="module", params=LOOKS, ids=lambda look: look.name)
def look(request: pytest.FixtureRequest) -> Look:
    found: Look = request.param
    return found


@pytest.fixture(scope="module", params=("en", "zh-hans"))
def page(request: pytest.FixtureRequest, stack: Stack, chromium: Browser, look: Look) -> Iterator[Page]:
    options: dict[str, Any] = {"viewport": look.viewport, "color_scheme": look.theme, "locale": "en-GB"}
    context = chromium.new_context(**options)
    page = context.new_page()
    log_in(page, stack.address, "operator", "operator")
    context.add_cookies([{"name": "steersman_language", "value": request.param, "url": stack.address}])
    yield page
    context.close()


def cut_off(page: Page, selector: str) -> list[str]:
    """Return the texts of the visible elements that are wider than what is shown of them."""
    found: list[str] = page.eval_on_selector_all(
        selector,
        """elements => elements
        .filter(each => each.getClientRects().length && each.scrollWidth > each.clientWidth + 1)
        .map(each => each.textContent.trim())""",
    )
    return found


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_cut_off(page: Page, stack: Stack, places: Places, look: Look, name: str, screenshots: Path) -> None:
    address, drawn = PAGES[name]
    page.goto(f"{stack.address}{address(places)}")
    expect(page.locator(drawn).first).to_be_visible(timeout=60_000)
    page.evaluate("document.fonts.ready")
    language = page.locator("html").get_attribute("lang")
    folder = screenshots / "screens"
    folder.mkdir(exist_ok=True)
    page.screenshot(path=folder / f"{name}-{look.name}-{language}.png")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if look.viewport["width"] >= LAPTOP["width"]:
        assert not cut_off(page, ".sections")
        if name == "list":
            # All filters stand in one line, and so does the button that clears them.
            tops = page.eval_on_selector_all(
                "#filters > *",
                """parts => [...new Set(parts
                .filter(part => part.getClientRects().length && !part.matches(".visually-hidden"))
                .map(part => { const { top, height } = part.getBoundingClientRect();
                    return Math.round((top + height / 2) / 20); }))]""",
            )
            assert len(tops) == 1
    elif name == "run-failed":
        buttons = page.get_by_test_id(re.compile("^(resume|resume-run|failure-resume)$"))
        expect(buttons.filter(visible=True)).to_have_count(1)
