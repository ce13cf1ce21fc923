"""A page of a run with thousands of series, and one whose events are swallowed on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, WebSocketRoute, expect

from tests.browser.conftest import Places
from tests.support.browser import operators_page
from tests.support.stack import Stack

SERIES = 5000
IMPORTS = """
from runs.recording import feed
from runs.series import storage as series
from runs.protocol.events import Block
from runs.models import Project, Run
from tests.support.stored_points import metrics_event
"""


def tell(stack: Stack, run: int, steps: list[int], count: int) -> None:
    stack.manage("shell", "-v", "0", "-c", f"""
{IMPORTS}
block = Block(steps={steps}, times=[1e9 + step for step in {steps}],
              values={{f"layer/{{number:04d}}": [0.5] * {len(steps)} for number in range({count})}})
event = metrics_event([block])
series.update_latest({run}, [event])
feed.append({run}, event)
""")  # fmt: skip


@pytest.fixture
def run(stack: Stack, places: Places) -> int:
    made = stack.manage("shell", "-v", "0", "-c", f"""
{IMPORTS}
print(Run.objects.create(project=Project.objects.get(slug="pages"), name="large", state="running", attempt=1).pk)
""")  # fmt: skip
    return int(made.stdout.split()[-1])


@pytest.fixture
def page(stack: Stack, chromium: Browser, places: Places) -> Iterator[Page]:
    with operators_page(chromium, stack.address) as page:
        yield page


def test_a_page_with_thousands_of_series_moves(page: Page, stack: Stack, run: int) -> None:
    tell(stack, run, list(range(1, 9)), SERIES)
    page.goto(f"{stack.address}/runs/{run}/")
    expect(page.get_by_test_id("chart")).to_have_count(60, timeout=30_000)
    more = page.locator("[data-more]:visible")
    expect(more).to_have_text(f"Show 60 more of {SERIES} charts")
    more.click()
    expect(page.get_by_test_id("chart")).to_have_count(120)
    expect(page.locator("#run")).to_have_attribute("data-link", "live", timeout=30_000)
    tell(stack, run, list(range(9, 17)), SERIES)
    expect(page.locator("#progress [data-slot=step]")).to_contain_text("16", timeout=30_000)


def test_a_page_notices_an_event_that_was_swallowed(page: Page, stack: Stack, run: int) -> None:
    swallowed: list[int] = []

    def pass_on(route: WebSocketRoute) -> None:
        server = route.connect_to_server()

        def from_server(message: str | bytes) -> None:
            frame = json.loads(message)
            if frame["kind"] == "metrics" and not swallowed:
                swallowed.append(frame["seq"])
                return
            route.send(message)

        server.on_message(from_server)

    page.route_web_socket("**/ws/runs/**", pass_on)
    page.goto(f"{stack.address}/runs/{run}/")
    expect(page.locator("#run")).to_have_attribute("data-link", "live", timeout=30_000)
    page.evaluate("""() => {
        window.told = [];
        const look = () => window.told.push(document.querySelector("#banner").textContent);
        new MutationObserver(look).observe(document.querySelector("#banner"), {
            subtree: true, childList: true, characterData: true,
        });
    }""")
    tell(stack, run, [1, 2, 7], 1)
    # The only event that told of a series.
    expect(page.get_by_test_id("chart")).to_have_count(1, timeout=30_000)
    assert len(swallowed) == 1
    expect(page.locator("#run")).to_have_attribute("data-link", "live")
    assert any("Events did not arrive" in text for text in page.evaluate("window.told"))
