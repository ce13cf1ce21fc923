"""A page of a run with thousands of series, one whose events are swallowed on the way, and one that is loaded again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, WebSocket, WebSocketRoute, expect

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


def test_charts_in_sight_are_whole_and_the_others_cost_little(page: Page, stack: Stack, run: int) -> None:
    looked: list[list[str]] = []
    came: list[set[str]] = []

    def note_sent(message: str | bytes) -> None:
        asked = json.loads(message)
        if asked["kind"] == "sight":
            looked.append(asked["series"])

    def note(message: str | bytes) -> None:
        frames = json.loads(message)
        for frame in frames if isinstance(frames, list) else [frames]:
            if frame["kind"] == "metrics":
                came.append({name for block in frame["blocks"] for name in block["values"]})

    def listen(socket: WebSocket) -> None:
        socket.on("framesent", note_sent)
        socket.on("framereceived", note)

    def last_in_sight(series: str) -> None:
        retry(lambda: looked and series in looked[-1], page)

    page.on("websocket", listen)
    tell(stack, run, list(range(1, 9)), 100)
    page.goto(f"{stack.address}/runs/{run}/")
    first, far = (page.locator(f"[data-testid=chart][data-key='layer/{number:04d}']") for number in (0, 50))
    expect(first).to_have_attribute("data-points", "8", timeout=30_000)
    first.scroll_into_view_if_needed()
    last_in_sight("layer/0000")
    assert "layer/0050" not in looked[-1]
    tell(stack, run, list(range(9, 13)), 100)
    expect(first).to_have_attribute("data-points", "12", timeout=30_000)
    assert "layer/0000" in came[-1] and "layer/0050" not in came[-1] and len(came[-1]) < 64
    far.scroll_into_view_if_needed()
    expect(far).to_have_attribute("data-points", "12", timeout=30_000)
    last_in_sight("layer/0050")
    tell(stack, run, list(range(13, 17)), 100)
    expect(far).to_have_attribute("data-points", "16", timeout=30_000)
    first.scroll_into_view_if_needed()
    expect(first).to_have_attribute("data-points", "16", timeout=30_000)


def retry(holds: Callable[[], object], page: Page) -> None:
    """Wait until something holds; the browser goes on meanwhile."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        page.evaluate("() => new Promise(requestAnimationFrame)")


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


class HistoryStatuses:
    """The statuses of answers to requests for the history, as they came over the wire: the page sees 200 alone."""

    def __init__(self, page: Page) -> None:
        # Of a request, the browser may tell of its headers before it tells of its address.
        self._asked: list[str] = []
        self._answered: dict[str, int] = {}
        session = page.context.new_cdp_session(page)
        session.on("Network.requestWillBeSent", self._note_request)
        session.on("Network.responseReceivedExtraInfo", self._note_answer)
        session.send("Network.enable")

    def _note_request(self, event: Any) -> None:
        if event["request"]["url"].endswith("/history/"):
            self._asked.append(event["requestId"])

    def _note_answer(self, event: Any) -> None:
        self._answered[event["requestId"]] = event["statusCode"]

    def seen(self) -> list[int]:
        return [self._answered[request] for request in self._asked if request in self._answered]


def test_a_reload_brings_no_history_that_the_browser_has_and_no_stale_one(page: Page, stack: Stack, run: int) -> None:
    end = f"from runs.models import Run; Run.objects.filter(pk={run}).update(state='finished')"
    stack.manage("shell", "-v", "0", "-c", end)
    tell(stack, run, [1, 2, 3], 40)
    statuses = HistoryStatuses(page)

    def shows(count: int) -> None:
        expect(page.locator("#run")).to_have_attribute("data-link", "live", timeout=30_000)
        expect(page.get_by_test_id("chart")).to_have_count(count, timeout=30_000)

    page.goto(f"{stack.address}/runs/{run}/")
    shows(40)
    page.reload()
    shows(40)
    assert statuses.seen() == [200, 304]
    page.goto(f"{stack.address}/")
    tell(stack, run, [4, 5], 50)
    page.goto(f"{stack.address}/runs/{run}/")
    shows(50)
    page.reload()
    shows(50)
    assert statuses.seen() == [200, 304, 200, 304]
