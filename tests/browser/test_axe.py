"""Every page for everybody: axe finds no fault, a phone needs no sideways scrolling, the keyboard reaches all of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from runs.portal.urls import urlpatterns
from tests.browser.conftest import Places
from tests.support.browser import log_in
from tests.support.stack import Stack

PHONE = {"width": 375, "height": 740}
DESK = {"width": 1280, "height": 900}

# Complete when the parts for people who may steer are drawn: knobs and curves with the run, downloads with the details.
DRAWN = "[data-link=live]:has(.stat-value):has([data-testid=chart])"
STEERED = f"{DRAWN}:has([data-testid=knob-value]):has([data-testid=download])"

# By name of the page: its address, the user, and a selector that matches once it is drawn.
PAGES: dict[str, tuple[Callable[[Places], str], str, str]] = {
    "login": (lambda _: "/login/", "", "form"),
    "password_change": (lambda _: "/password/", "viewer", "form"),
    "password_change_done": (lambda _: "/password/done/", "viewer", "h1"),
    "sessions": (lambda _: "/sessions/", "viewer", "[data-session]"),
    "runs": (lambda _: "/", "operator", "[data-testid=run-row]"),
    "runs, none found": (lambda _: "/?q=no-such-run", "operator", ".blank"),
    "run": (lambda places: f"/runs/{places['live']}/", "operator", STEERED),
    "run, full": (lambda places: f"/runs/{places['full']}/", "owner", f"{STEERED}:has(#parameters td)"),
    "run, ended": (lambda places: f"/runs/{places['ended']}/", "owner", STEERED),
    "run, not started": (lambda places: f"/runs/{places['bare']}/", "viewer", "[data-link=live] .blank"),
    "branch": (
        lambda places: f"/runs/{places['ended']}/checkpoints/{places['origin']}/branch/", "operator", "main form",
    ),
    "again": (lambda places: f"/runs/{places['branch']}/again/", "operator", "main form"),
    "run, branch": (lambda places: f"/runs/{places['branch']}/", "viewer", "[data-link=live] [data-testid=family]"),
    "checkpoint, gone": (lambda places: f"/runs/{places['live']}/checkpoints/999999/", "operator", "h1"),
    "compare": (
        lambda places: (
            f"/runs/compare/?run={places['live']}&run={places['ended']}&run={places['full']}&run=999999"
            f"&baseline={places['live']}"
        ),
        "viewer", "canvas",
    ),
    "compare, grouped": (
        lambda places: (
            f"/runs/compare/?run={places['live']}&run={places['ended']}&run={places['full']}"
            "&group=parameter%3Arate&baseline=0"
        ),
        "viewer", "canvas",
    ),
    "runs, in groups": (
        lambda _: "/?group=parameter%3Arate&open=0.001", "operator", "[data-testid=run-group] ~ [data-testid=run-row]",
    ),
    "compare, nothing": (lambda _: "/runs/compare/", "viewer", ".blank"),
    "new_run": (lambda _: "/runs/new/", "operator", "main form"),
    "run_on_agent": (lambda _: "/runs/new/agent/", "operator", "[data-testid=agents]"),
    "run_on_agent, a command": (
        lambda places: f"/runs/new/agent/?agent={places['agent']}&command=resnet",
        "operator", "[data-testid=agent-run]",
    ),
    "install_client": (lambda _: "/runs/new/client/", "viewer", "[data-testid=install-command]"),
    "projects": (lambda _: "/projects/", "owner", "h1"),
    "project": (lambda _: "/projects/pages/", "owner", "[data-testid=best-runs]"),
    "project, to a viewer": (lambda _: "/projects/pages/", "viewer", "h1"),
    "edit_project": (lambda _: "/projects/pages/edit/", "owner", "main form"),
    "members": (lambda _: "/projects/pages/members/", "owner", "h1"),
    "keeping": (lambda _: "/projects/pages/keeping/", "owner", "h1"),
    "members, to a viewer": (lambda _: "/projects/pages/members/", "viewer", "h1"),
    "invite": (lambda places: f"/invite/{places['invite']}/", "", "form"),
    "invite, unusable": (lambda _: "/invite/nothing/", "", "h1"),
    "project_audit": (lambda _: "/projects/pages/audit/", "owner", "[data-testid=audit]"),
    "audit": (lambda _: "/audit/", "admin", "[data-testid=audit]"),
    "tokens": (lambda _: "/projects/pages/tokens/", "owner", "h1"),
    "project_rules": (lambda _: "/projects/pages/rules/", "operator", "h1"),
    "project_rule": (lambda _: "/projects/pages/rules/edit/?detector=threshold", "operator", ".rule-form"),
    "run_rules": (lambda places: f"/runs/{places['live']}/rules/", "operator", "h1"),
    "run_rules, to a viewer": (lambda places: f"/runs/{places['live']}/rules/", "viewer", "h1"),
    "run_rule": (lambda places: f"/runs/{places['live']}/rules/edit/?detector=spike", "operator", ".rule-form"),
    "share_run": (lambda places: f"/runs/{places['live']}/share/", "operator", "h1"),
    "share": (lambda places: f"/share/{places['share']}/", "", "[data-link=live] [data-testid=chart] canvas"),
    "share, ended": (lambda _: "/share/nothing/", "", "h1"),
    "destinations": (lambda _: "/projects/pages/alerts/", "owner", "h1"),
    "destinations, to a viewer": (lambda _: "/projects/pages/alerts/", "viewer", "h1"),
    "new_destination": (lambda _: "/projects/pages/alerts/new/dingtalk/", "owner", "main form"),
    "destination": (lambda places: f"/projects/pages/alerts/{places['destination']}/", "owner", "main form"),
    "mail_account": (lambda _: "/projects/pages/alerts/mail/", "owner", "main form"),
    "alert_link": (lambda places: places["pause_link"], "", "main form"),
    "alert_link, expired": (lambda places: places["late_link"], "", "h1"),
    "alert_link, damaged": (lambda _: "/alerts/act/nothing/", "", "h1"),
    "no such page": (lambda _: "/runs/999999/", "viewer", "h1"),
}  # fmt: skip
# Routes without a page of their own: JSON, scripts, and addresses that only accept POST.
NO_PAGES = {
    "logout", "texts", "current_texts", "queue_run", "in_queue", "change_role", "remove_member", "revoke_invite",
    "revoke_token", "manifest", "set_language", "switch_destination", "delete_destination", "test_destination",
    "test_mail_account", "delete_mail_account", "end_session", "end_other_sessions", "console", "patch",
    "console_search", "compare_curves", "compare_importance", "export_runs", "save_view", "delete_view",
}  # fmt: skip
FOCUSABLE = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']"


@pytest.fixture(scope="module")
def visitors(stack: Stack, chromium: Browser) -> Iterator[Callable[[str], Page]]:
    """Pages of logged-in users, one each, by user name; "" is an anonymous visitor."""
    pages: dict[str, Page] = {}

    def visit_as(name: str) -> Page:
        if name not in pages:
            pages[name] = chromium.new_context(viewport=DESK, locale="en-GB").new_page()
            if name:
                log_in(pages[name], stack.address, name, name)
        return pages[name]

    yield visit_as
    for page in pages.values():
        page.context.close()


@pytest.fixture
def opened(stack: Stack, places: Places, visitors: Callable[[str], Page]) -> Callable[..., Page]:
    def open_page(name: str) -> Page:
        address, visitor, drawn = PAGES[name]
        page = visitors(visitor)
        page.set_viewport_size(DESK)
        page.emulate_media(color_scheme="light", reduced_motion="reduce")
        page.goto(stack.address + address(places))
        expect(page.locator(drawn).first).to_be_visible()
        return page

    return open_page


def violations(page: Page, options: dict[str, Any] | None = None, context: dict[str, Any] | None = None) -> list[str]:
    """Return axe's findings, a line for each element: the rule, its place, and the problem."""
    return [
        f"{rule['id']}: {node['target']}: {node['failureSummary']}"
        for rule in Axe().run(page, context, options).response["violations"]
        for node in rule["nodes"]
    ]


def focused(page: Page) -> str:
    """Return the number that `number_focusable` gave the focused element, "" if it has none.

    A page that renders itself again meanwhile has a copy instead of the element, which is the same for a reader.
    """
    script = """() => {
        const now = document.activeElement;
        const same = (node) => node === now || (!node.isConnected && node.outerHTML === now?.outerHTML);
        return window.wanted.findIndex(same) + 1;
    }"""
    return str(page.evaluate(script) or "")


def number_focusable(page: Page) -> list[str]:
    """Number the elements that a keyboard must reach: all that are visible and usable; a group of radio buttons is one
    stop.

    The page stores the elements in a list. A mark on them would be a change, which pages undo when they refresh.
    """
    script = """selector => {
        window.wanted = [...document.querySelectorAll(selector)].filter(node =>
            node.checkVisibility({ visibilityProperty: true }) && !node.disabled && node.tabIndex >= 0
            && !(node.type === 'radio' && !node.checked));
        return window.wanted.map((_, index) => String(index + 1));
    }"""
    found: list[str] = page.evaluate(script, FOCUSABLE)
    return found


def test_it_looks_at_every_page() -> None:
    names = {pattern.name for pattern in urlpatterns}
    pages = {name.split(",")[0] for name in PAGES}
    assert names - NO_PAGES <= pages, (
        f"give these a row in PAGES: {sorted(str(name) for name in names - NO_PAGES - pages)}"
    )


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_for_everybody(opened: Callable[..., Page], name: str) -> None:
    """In light and dark, by keyboard only, and on a phone: axe finds nothing."""
    page = opened(name)
    assert (name, "light", violations(page)) == (name, "light", [])
    assert out_of_reach(page) == ([], [])
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    assert (name, "dark", violations(page)) == (name, "dark", [])
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert (name, "phone", violations(page)) == (name, "phone", [])


@pytest.mark.parametrize(
    ("address", "drawn"),
    [
        ("/admin/runs/run/{full}/change/", ".select2-selection"),
        ("/admin/runs/run/{ended}/change/", ".select2-selection"),
        ("/admin/runs/run/", "#result_list"),
        ("/api/docs/", ".opblock-tag"),
    ],
)
def test_a_page_with_the_elements_of_a_library_is_for_everybody(
    stack: Stack, places: Places, visitors: Callable[[str], Page], address: str, drawn: str
) -> None:
    """The libraries' elements around these pages have no landmarks, so only the rules of WCAG are checked."""
    page = visitors("admin")
    page.set_viewport_size(DESK)
    rules = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
    # The text in a Select2 field has the role of a field without a name; the element around it has a name.
    parts = {"exclude": [[".select2-selection__rendered"]]}
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.goto(stack.address + address.format(**places))
        expect(page.locator(drawn).first).to_be_visible()
        assert (scheme, violations(page, rules, parts)) == (scheme, [])


def out_of_reach(page: Page) -> tuple[list[str], list[str]]:
    """Return the elements that the keyboard does not reach, and those without a visible focus."""
    page.evaluate("document.activeElement?.blur()")
    wanted = number_focusable(page)
    reached: dict[str, bool] = {}
    # A time or date field has a stop for each of its parts.
    parts = 3 * page.locator("input[type=time], input[type=date]").count()
    for _ in range(len(wanted) + parts + 2):
        page.keyboard.press("Tab")
        place = focused(page)
        if place and place not in reached:
            outlined = "getComputedStyle(document.activeElement).outlineStyle !== 'none'"
            reached[place] = page.evaluate(outlined)
    where = "place => window.wanted[place - 1].outerHTML.slice(0, 160)"
    missed = [page.evaluate(where, place) for place in wanted if place not in reached]
    return missed, [page.evaluate(where, place) for place, is_seen in reached.items() if not is_seen]


def controls(page: Page) -> list[list[int]]:
    """Return the positions of the visible controls: name, left, top, width."""
    found: list[list[int]] = page.evaluate("""() => [...document.querySelectorAll("[data-ask]")]
        .filter(one => one.checkVisibility())
        .map(one => [one.dataset.testid, one.getBoundingClientRect()])
        .map(([name, {x, y, width}]) => [name, Math.round(x), Math.round(y), Math.round(width)])""")
    return found


@pytest.mark.parametrize("name", ["run", "run, full", "run, ended"])
def test_no_control_moves_when_the_page_goes_live(
    stack: Stack, places: Places, opened: Callable[..., Page], name: str
) -> None:
    page = opened(name)
    live = {}
    for size in (DESK, PHONE):
        page.set_viewport_size(size)
        live[size["width"]] = controls(page)
    scripts = re.compile(r"/vendor/run-page")
    page.route(scripts, lambda route: route.abort())
    before = {}
    try:
        page.reload()
        for size in (DESK, PHONE):
            page.set_viewport_size(size)
            before[size["width"]] = controls(page)
    finally:
        page.unroute(scripts)
    assert before == live and all(live.values())


MOVING = """() => {
    const seconds = (list) => Math.max(...list.split(",").map(parseFloat));
    const moves = (style) => (style.transitionProperty !== "none" && seconds(style.transitionDuration) > 0)
        || (style.animationName !== "none" && seconds(style.animationDuration) > 0)
        || style.scrollBehavior === "smooth";
    return [...document.querySelectorAll("*")].flatMap((node) => ["", "::before", "::after"]
        .filter((part) => moves(getComputedStyle(node, part || null)))
        .map((part) => `${node.tagName} ${node.getAttribute("class")} ${part}`));
}"""


@pytest.mark.parametrize(("name", "moving"), [("run", "SUMMARY"), ("runs", "BUTTON")])
def test_nothing_moves_for_readers_who_want_no_motion(opened: Callable[..., Page], name: str, moving: str) -> None:
    page = opened(name)
    assert page.evaluate(MOVING) == []
    page.emulate_media(reduced_motion="no-preference")
    assert moving in " ".join(page.evaluate(MOVING))


# Summed as browsers do: a page at rest has 0, and 0.1 is noticeable.
MOVED = """
window.moved = 0;
new PerformanceObserver(list => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.moved += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


def test_the_first_screen_shows_a_curve_and_nothing_moves(opened: Callable[..., Page], screenshots: Path) -> None:
    name = "run, ended"
    page = opened(name)
    page.add_init_script(MOVED)
    for kind, size in (("laptop", {"width": 1366, "height": 768}), ("phone", {"width": 390, "height": 844})):
        page.set_viewport_size(size)
        page.goto(page.url)
        expect(page.locator(PAGES[name][2]).first).to_be_visible()
        assert page.evaluate("window.moved") <= 0.02, kind
        page.screenshot(path=screenshots / f"first-screen-{kind}.png")
        notices = page.locator(".run-notices").evaluate("one => one.offsetHeight")
        if kind == "laptop":
            chart = page.locator("[data-testid=chart]").first.bounding_box()
            assert chart is not None and chart["y"] - notices <= 300
        else:
            for part in (".stat-spark", "[data-testid=state]", "[data-testid=time-left]", "[data-testid=stop]"):
                expect(page.locator(part).first).to_be_in_viewport(ratio=1)
            assert page.locator(".stat-spark").first.evaluate("one => one.offsetHeight") == 160
            page.get_by_test_id("more-controls").click()
            expect(page.get_by_test_id("note")).to_be_in_viewport(ratio=1)
            page.get_by_test_id("more-controls").click()
        page.evaluate("scrollTo(0, 1500)")
        for part in ("state", "stop"):
            expect(page.get_by_test_id(part)).to_be_in_viewport(ratio=1)
        # A browser that opens the same address again restores the scroll position.
        page.evaluate("scrollTo(0, 0)")


def test_a_long_name_leaves_room_for_the_value(opened: Callable[..., Page]) -> None:
    page = opened("run, full")
    for size in (DESK, PHONE):
        page.set_viewport_size(size)
        chart = page.locator("[data-testid=chart]", has=page.locator(".chart-title", has_text="blocks.10/")).first
        chart.scroll_into_view_if_needed()
        reading = chart.locator(".chart-reading")
        expect(reading).to_have_text("0.5")
        assert reading.evaluate("one => one.scrollWidth <= one.clientWidth")
        expect(reading).to_be_in_viewport(ratio=1)


def in_dialog(page: Page) -> bool:
    return bool(page.evaluate("Boolean(document.activeElement.closest('dialog[open]'))"))


@pytest.mark.parametrize(
    ("opener", "dialog"),
    [
        ("[data-shortcuts]", "#shortcuts"),
        ("[data-testid=stop]", "#stop-dialog"),
        ("[data-testid=note]", "#note-dialog"),
        ("[data-testid=save]", "#save-dialog"),
        ("[data-testid=chart] [data-full]", ".chart-dialog"),
    ],
)
def test_a_dialog_keeps_the_focus_and_gives_it_back(opened: Callable[..., Page], opener: str, dialog: str) -> None:
    page = opened("run")
    page.locator(opener).first.focus()
    page.keyboard.press("Enter")
    expect(page.locator(dialog)).to_be_visible()
    outside = 0
    for _ in range(8):
        page.keyboard.press("Tab")
        # Between the last and the first stop the browser may focus its own controls, which appear as the body.
        outside += not in_dialog(page) and page.evaluate("document.activeElement !== document.body")
    assert not outside
    page.keyboard.press("Escape")
    expect(page.locator(dialog)).to_be_hidden()
    expect(page.locator(opener).first).to_be_focused()


def test_a_chart_says_in_words_what_it_shows(opened: Callable[..., Page]) -> None:
    page = opened("run, ended")
    chart = page.locator('[data-series="train/loss"]')
    marks = "marks of interventions and alerts: 7; press m to read them"
    label = f"train/loss: 0.004958; from 0.004958 to 1.996; 3,000 points; {marks}; over step"
    expect(chart).to_have_attribute("aria-label", label)


def test_it_says_what_is_wrong_with_a_run_and_where_more_is_told(opened: Callable[..., Page]) -> None:
    page = opened("run, ended")
    banner = page.get_by_test_id("banner")
    expect(banner).to_contain_text("the loss is no finite number")
    banner.get_by_role("link").click()
    expect(page.locator("#attempts")).to_be_in_viewport()
    page = opened("run")
    expect(page.get_by_test_id("trouble")).to_contain_text("Its host is disconnected or down.")
    expect(page.get_by_test_id("banner")).to_be_hidden()
