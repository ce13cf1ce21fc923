"""A page of a run with thousands of series, one whose events are lost on the way, and one that is reloaded."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, WebSocket, WebSocketRoute, expect

from tests.browser.conftest import Places
from tests.support.browser import log_in, operators_page
from tests.support.stack import Stack

SERIES = 5000
IMPORTS = """
from runs.recording import feed
from runs.series import storage as series
from runs.protocol.events import Block
from runs.models import Project, Run
from tests.support.stored_points import metrics_event
"""

ASK_AS_OLGA = """
from django.contrib.auth.models import User
from runs.commands.record import record
from runs.protocol.commands import parse_command
asked = parse_command({{"command": "stop", "reason": "It oscillates."}})
record({run}, asked, author_id=User.objects.get(username="operator").pk, author_name="Olga Person")
"""


def tell(stack: Stack, run: int, steps: list[int], count: int) -> None:
    tell_of(stack, run, steps, f"[f'layer/{{number:04d}}' for number in range({count})]")


def tell_of(stack: Stack, run: int, steps: list[int], names: str) -> None:
    """Send points of the series that `names`, a Python expression, lists."""
    stack.manage("shell", "-v", "0", "-c", f"""
{IMPORTS}
block = Block(steps={steps}, times=[1e9 + step for step in {steps}],
              values={{name: [0.5] * {len(steps)} for name in {names}}})
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
    expect(page.get_by_test_id("chart")).to_have_count(12)
    more = page.locator("[data-more]:visible")
    expect(more).to_have_text(f"Show 12 more of {SERIES} charts")
    more.click()
    expect(page.get_by_test_id("chart")).to_have_count(24)
    page.keyboard.press("/")
    page.keyboard.type("layer/4999")
    expect(page.get_by_test_id("chart-hits")).to_have_text(f"1 of {SERIES} charts")
    expect(shown_charts(page)).to_have_attribute("data-key", "layer/4999")
    page.keyboard.press("Escape")
    expect(shown_charts(page)).to_have_count(24)
    expect(page.locator("#run")).to_have_attribute("data-link", "live")
    tell(stack, run, list(range(9, 17)), SERIES)
    expect(page.locator("#progress [data-slot=step]")).to_contain_text("16")


def shown_charts(page: Page) -> Locator:
    return page.locator("[data-testid=chart]:not([hidden])")


def groups_open(page: Page) -> list[str]:
    """Return the titles of the open groups of charts, without their numbers of charts."""
    return [each.strip() for each in page.locator(".chart-group[open]:visible .block-title").all_inner_texts()]


def test_one_chart_is_found_among_300_and_pinned(page: Page, stack: Stack, run: int, screenshots: Path) -> None:
    names = [f"{group}/{number}" for group in ("attention", "mlp", "norm") for number in range(1, 99)]
    tell_of(stack, run, list(range(1, 9)), str(["train/loss", "train/accuracy", "optimizer/learning_rate", *names]))
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{stack.address}/runs/{run}/")
    expect(shown_charts(page)).to_have_count(2)
    retry(lambda: groups_open(page) == ["Train"], page)
    expect(page.locator("[data-testid=chart] canvas").first).to_be_visible()
    page.screenshot(path=screenshots / "phone-300.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollHeight") <= 6 * 844

    page.keyboard.press("/")
    page.keyboard.type("re:mlp/2[0-9]$")
    expect(page.get_by_test_id("chart-hits")).to_have_text("10 of 297 charts")
    retry(lambda: groups_open(page) == ["mlp"], page)
    expect(shown_charts(page).first).to_have_attribute("data-key", "mlp/20")
    page.locator("#chart-filter").fill("re:mlp[")
    expect(page.get_by_test_id("chart-hits")).to_contain_text("Not a regular expression")
    page.locator("#chart-filter").fill("nothing like it")
    expect(page.get_by_test_id("no-chart-found")).to_contain_text("No chart has such a name")
    page.get_by_role("button", name="Show all charts").click()
    expect(page.get_by_test_id("no-chart-found")).to_have_count(0)
    retry(lambda: groups_open(page) == ["Train"], page)

    page.locator("#chart-filter").fill("mlp/27")
    page.get_by_role("button", name="Pin mlp/27").click()
    expect(page.get_by_role("button", name="Unpin mlp/27")).to_be_focused()
    page.locator("#chart-filter").fill("accuracy")
    expect(shown_charts(page)).to_have_attribute("data-key", "train/accuracy")
    shown_charts(page).get_by_test_id("chart-menu").click()
    page.get_by_role("button", name="Hide train/accuracy").click()
    page.locator("#chart-filter").fill("")
    page.locator("[data-group=norm] > summary").click()
    arranged = ["mlp/27", "train/loss", "norm/1", "norm/2", "norm/3", "norm/4"]
    keys = "charts => charts.map(chart => chart.dataset.key)"
    retry(lambda: shown_charts(page).evaluate_all(keys) == arranged, page)
    # What is pinned is among the cards, behind the loss.
    expect(page.locator("#stats .stat-title").nth(1)).to_have_text("mlp/27")
    page.get_by_role("button", name="Move norm/1").press("ArrowRight")
    expect(page.get_by_role("button", name="Move norm/1")).to_be_focused()
    # Both must be in sight.
    page.set_viewport_size({"width": 1280, "height": 900})
    page.get_by_role("button", name="Move norm/4").drag_to(page.locator("[data-key='norm/2']"))
    page.set_viewport_size({"width": 390, "height": 844})
    arranged = ["mlp/27", "train/loss", "norm/4", "norm/2", "norm/1", "norm/3"]
    retry(lambda: shown_charts(page).evaluate_all(keys) == arranged, page)

    page.reload()
    expect(shown_charts(page)).to_have_count(6)
    retry(lambda: groups_open(page) == ["Pinned", "Train", "norm"], page)
    retry(lambda: shown_charts(page).evaluate_all(keys) == arranged, page)
    page.get_by_role("button", name="Hidden: 1").click()
    page.locator("[data-key='train/accuracy']").get_by_test_id("chart-menu").click()
    page.get_by_role("button", name="Show train/accuracy again").click()
    expect(page.get_by_role("button", name="Hidden: 1")).to_be_hidden()
    # Other people see an operator's pins; a viewer's pins are their own.
    viewers = page.context.browser.new_page(locale="en-GB")
    log_in(viewers, stack.address, "viewer", "viewer")
    viewers.goto(f"{stack.address}/runs/{run}/")
    star = viewers.get_by_role("button", name="Unpin mlp/27")
    star.click()
    expect(viewers.locator("[data-group='/pinned']")).to_be_hidden()
    viewers.context.close()
    page.reload()
    expect(page.locator("[data-group='/pinned'] [data-key='mlp/27']")).to_be_visible()
    page.get_by_role("button", name="Unpin the card mlp/27").click()
    expect(page.locator("[data-group='/pinned']")).to_be_hidden()


class Sockets:
    """What a page sends and receives on its sockets: its sights, the series of each `metrics`, all of it as text."""

    def __init__(self, page: Page) -> None:
        self.looked: list[list[str]] = []
        self.came: list[set[str]] = []
        self.texts: list[str] = []
        page.on("websocket", self._listen)

    def _listen(self, socket: WebSocket) -> None:
        socket.on("framesent", self._note_sent)
        socket.on("framereceived", self._note)

    def _note_sent(self, message: str | bytes) -> None:
        asked = json.loads(message)
        if asked["kind"] == "sight":
            self.looked.append(asked["series"])

    def _note(self, message: str | bytes) -> None:
        self.texts.append(str(message))
        frames = json.loads(message)
        for frame in frames if isinstance(frames, list) else [frames]:
            if frame["kind"] == "metrics":
                self.came.append({name for block in frame["blocks"] for name in block["values"]})


@pytest.mark.parametrize("by", ["member", "link"])
def test_charts_in_sight_are_whole_and_the_others_cost_little(
    page: Page, stack: Stack, run: int, chromium: Browser, by: str
) -> None:
    with contextlib.ExitStack() as left_at_the_end:
        address = f"{stack.address}/runs/{run}/"
        if by == "link":
            page = left_at_the_end.enter_context(chromium.new_context(locale="en-GB")).new_page()
            address = f"{stack.address}/share/{key_of(stack, run)}/"
        sockets = Sockets(page)
        tell(stack, run, list(range(1, 9)), 100)
        page.goto(address)
        look_at_charts_near_and_far(page, stack, run, sockets)
        stack.manage("shell", "-v", "0", "-c", ASK_AS_OLGA.format(run=run))
        retry(lambda: any("It oscillates." in text for text in sockets.texts), page)
        assert any("Olga Person" in text for text in sockets.texts) == (by == "member")


def key_of(stack: Stack, run: int) -> str:
    made = stack.manage(
        "create_token", "--project", "pages", "--user", "owner", "--scope", "share", "--run", str(run), "--name", "hall"
    )
    return made.stdout.strip()


def look_at_charts_near_and_far(page: Page, stack: Stack, run: int, sockets: Sockets) -> None:
    def last_in_sight(series: str, without: str = "") -> None:
        retry(lambda: sockets.looked and series in (now := sockets.looked[-1]) and without not in now, page)

    for _ in range(2):
        page.locator("[data-more]:visible").click()
    first, far = (page.locator(f"[data-testid=chart][data-key='layer/{number:04d}']") for number in (0, 35))
    first.scroll_into_view_if_needed()
    expect(first).to_have_attribute("data-points", "8")
    last_in_sight("layer/0000", without="layer/0035")
    tell(stack, run, list(range(9, 13)), 100)
    expect(first).to_have_attribute("data-points", "12")
    came = sockets.came[-1]
    assert "layer/0000" in came and "layer/0035" not in came and len(came) < 64
    far.scroll_into_view_if_needed()
    expect(far).to_have_attribute("data-points", "12")
    last_in_sight("layer/0035")
    tell(stack, run, list(range(13, 17)), 100)
    expect(far).to_have_attribute("data-points", "16")
    first.scroll_into_view_if_needed()
    expect(first).to_have_attribute("data-points", "16")


def retry(holds: Callable[[], object], page: Page) -> None:
    """Wait until something is true, while the browser continues."""
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
    expect(page.locator("#run")).to_have_attribute("data-link", "live")
    page.evaluate("""() => {
        window.told = [];
        const look = () => window.told.push(document.querySelector("#trouble").textContent);
        new MutationObserver(look).observe(document.querySelector("#trouble"), {
            subtree: true, childList: true, characterData: true,
        });
    }""")
    tell(stack, run, [1, 2, 7], 1)
    # The only event with a series.
    expect(page.get_by_test_id("chart")).to_have_count(1)
    assert len(swallowed) == 1
    expect(page.locator("#run")).to_have_attribute("data-link", "live")
    assert any("Some events did not arrive" in text for text in page.evaluate("window.told"))


class HistoryStatuses:
    """The statuses of answers to history requests on the wire: the page only sees 200."""

    def __init__(self, page: Page) -> None:
        # The browser may report the headers of a request before its address.
        self._asked: list[str] = []
        self._answered: dict[str, int] = {}
        session = page.context.new_cdp_session(page)
        session.on("Network.requestWillBeSent", self._note_request)
        session.on("Network.responseReceivedExtraInfo", self._note_answer)
        session.send("Network.enable")

    def _note_request(self, event: Any) -> None:
        if "/history/" in event["request"]["url"]:
            self._asked.append(event["requestId"])

    def _note_answer(self, event: Any) -> None:
        self._answered[event["requestId"]] = event["statusCode"]

    def seen(self) -> list[int]:
        return [self._answered[request] for request in self._asked if request in self._answered]


def test_a_reload_brings_no_history_that_the_browser_has_and_no_stale_one(page: Page, stack: Stack, run: int) -> None:
    end = f"from runs.models import Run; Run.objects.filter(pk={run}).update(state='finished')"
    stack.manage("shell", "-v", "0", "-c", end)
    tell(stack, run, [1, 2, 3], 39)
    statuses = HistoryStatuses(page)

    def shows(count: int) -> None:
        expect(page.locator("#run")).to_have_attribute("data-link", "live")
        expect(page.get_by_test_id("chart")).to_have_count(count)

    page.goto(f"{stack.address}/runs/{run}/")
    shows(39)
    # The browser requests it together with the scripts, and the script uses that answer.
    initiators = """performance.getEntriesByType("resource").filter(({ name }) => name.includes("/history/"))
        .map(({ initiatorType }) => initiatorType)"""
    assert page.evaluate(initiators) == ["link"]
    page.reload()
    shows(39)
    retry(lambda: statuses.seen() == [200, 304], page)
    page.goto(f"{stack.address}/")
    tell(stack, run, [4, 5], 39)
    tell_of(stack, run, [6], "['loss']")
    page.goto(f"{stack.address}/runs/{run}/")
    shows(40)
    page.reload()
    shows(40)
    retry(lambda: statuses.seen() == [200, 304, 200, 304], page)
