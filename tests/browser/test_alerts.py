"""Alerts on the page of a run: banner, list, title of the tab, snooze, what a rule did; and trying rules."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Places
from tests.support.browser import operators_page
from tests.support.stack import Stack

CLEAR = """
from runs.models import Alert, AlertState, alert_as_wire
from runs.protocol.events import AlertChanged
from runs.recording import feed
for alert in Alert.objects.filter(run_id={run}, state="open", severity="{severity}"):
    alert.state = AlertState.CLEARED
    alert.save()
    feed.append({run}, AlertChanged(**alert_as_wire(alert)))
"""

BEGIN = """
from django.utils import timezone
from runs.recording import alerts
for step, title in enumerate(("First", "Second"), 1):
    finding = alerts.Finding("code", "critical", title, timezone.now(), step=step)
    assert alerts.begin({run}, 1, finding)
"""
FORGET = """
from runs.models import Alert
Alert.objects.filter(run_id={run}, detector="code").delete()
"""
ROLE = "from runs.models import Membership; Membership.objects.filter(user__username='operator').update(role='{role}')"

ACT = """
from django.utils import timezone
from runs.alerts.rulebook import acting
from runs.models import AlertRule, Project, Run
from runs.recording import alerts
from runs.recording.lifecycle import Holder, open_attempt
run = Run.objects.create(project=Project.objects.get(slug="pages"), name="ruled")
open_attempt(run.pk, Holder("gpu-host", "boot", 1), 0, command_line=[])
rule = AlertRule.objects.create(
    project=run.project, run=run, detector="divergence", action="save_checkpoint", dry_run=False
)
finding = alerts.Finding("divergence", "critical", "Divergence", timezone.now(), series="made/loss", step=5,
                         rule_id=rule.pk, action=rule.action)
acting.act(alerts.begin(run.pk, 1, finding).pk)
print(run.pk)
"""
FORGET_RUN = "from runs.models import Run; Run.objects.filter(name='ruled').delete()"


@pytest.fixture
def page(stack: Stack, chromium: Browser, places: Places) -> Iterator[Page]:
    with operators_page(chromium, stack.address) as page:
        page.goto(f"{stack.address}/runs/{places['live']}/")
        expect(page.get_by_test_id("alert-row")).to_have_count(3, timeout=20_000)
        yield page


def test_the_chart_of_the_series_marks_where_it_began(page: Page) -> None:
    loss, accuracy = (
        page.locator(f'[data-testid=chart][data-series~="train/{name}"]') for name in ("loss", "accuracy")
    )
    loss.scroll_into_view_if_needed()
    expect(loss).to_have_attribute("data-marks", re.compile(r"\d"))
    expect(accuracy).to_have_attribute("data-marks", re.compile(r"\d"))
    assert int(loss.get_attribute("data-marks") or 0) == int(accuracy.get_attribute("data-marks") or 0) + 3
    loss.focus()
    tip = loss.get_by_test_id("mark-tip")
    for _ in range(20):
        loss.press("m")
        if "Alert: Spike (cleared) · step 900" in tip.inner_text():
            break
    expect(tip).to_contain_text("Alert: Spike (cleared) · step 900")


def test_a_link_of_a_message_shows_the_charts_and_marks_its_step(page: Page, stack: Stack, places: Places) -> None:
    loss = page.locator('[data-testid=chart][data-series~="train/loss"]')
    loss.scroll_into_view_if_needed()
    expect(loss).to_have_attribute("data-marks", re.compile(r"\d"))
    before = int(loss.get_attribute("data-marks") or 0)
    page.goto(f"{stack.address}/runs/{places['live']}/?step=1234")
    expect(page.locator("#charts")).to_be_in_viewport(timeout=20_000)
    expect(page.get_by_test_id("alert-banner")).not_to_be_in_viewport()
    expect(loss).to_have_attribute("data-marks", str(before + 1))
    loss.focus()
    for _ in range(20):
        loss.press("m")
        if "Step of the link" in loss.get_by_test_id("mark-tip").inner_text():
            break
    expect(loss.get_by_test_id("mark-tip")).to_contain_text("Step of the link · step 1234")


def test_what_lasts_is_told_until_it_is_over_the_most_severe_first(page: Page, stack: Stack, places: Places) -> None:
    banner = page.get_by_role("alert").filter(has_text="critical")
    expect(banner).to_contain_text("critical: Not finite · train/loss · step 1500")
    expect(banner).to_contain_text("and 1 more")
    expect(page).to_have_title(re.compile("^⚠ 1 critical · "))
    banner.get_by_role("link", name="All alerts").press("Enter")
    expect(page.locator("#alerts")).to_be_in_viewport()
    first = page.get_by_test_id("alert-row").last
    expect(first).to_contain_text("Spike · train/loss · step 900")
    for said in ("warning", "cleared", "value NaN", "usual 0.31 ± 0.02", "cleared at step 910"):
        expect(first).to_contain_text(said)

    page.set_viewport_size({"width": 375, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 375

    stack.manage("shell", "-v", "0", "-c", CLEAR.format(run=places["live"], severity="critical"))
    told = page.get_by_test_id("alert-banner")
    expect(told).to_contain_text("info: Plateau")
    stack.manage("shell", "-v", "0", "-c", CLEAR.format(run=places["live"], severity="info"))
    expect(told).to_be_hidden()
    expect(page).to_have_title(re.compile("^running · "))


@pytest.fixture
def two_more(stack: Stack, places: Places) -> Iterator[None]:
    """Alerts of the training's own code, which are the first that the banner tells of."""
    stack.manage("shell", "-v", "0", "-c", BEGIN.format(run=places["live"]))
    yield
    stack.manage("shell", "-v", "0", "-c", FORGET.format(run=places["live"]))


def test_who_acknowledges_takes_it_off_the_banner_and_is_named_in_the_panel(
    stack: Stack, chromium: Browser, places: Places, two_more: None
) -> None:
    with operators_page(chromium, stack.address) as page:
        page.goto(f"{stack.address}/runs/{places['live']}/")
        told, row = page.get_by_test_id("alert-banner"), page.get_by_test_id("alert-row")
        expect(told).to_contain_text("critical: Second · step 2")
        told.get_by_role("button", name="Acknowledge").press("Enter")
        expect(told).to_contain_text("critical: First · step 1")
        expect(told.get_by_role("button", name="Acknowledge")).to_be_focused()
        second = row.filter(has_text="Second · step 2")
        expect(second).to_contain_text("acknowledged by")
        expect(second.get_by_role("button")).to_have_count(0)
        page.get_by_role("button", name="Acknowledge: First · step 1").press("Enter")
        expect(row.filter(has_text="First · step 1")).to_contain_text("acknowledged by")
        expect(page.locator("#alerts")).to_be_focused()
        expect(page.get_by_role("alert").filter(has_text="First")).to_have_count(0)


def test_a_viewer_has_no_button(stack: Stack, chromium: Browser, places: Places, two_more: None) -> None:
    stack.manage("shell", "-v", "0", "-c", ROLE.format(role="viewer"))
    try:
        with operators_page(chromium, stack.address) as page:
            page.goto(f"{stack.address}/runs/{places['live']}/")
            expect(page.get_by_test_id("alert-banner")).to_contain_text("critical: Second · step 2")
            expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)
    finally:
        stack.manage("shell", "-v", "0", "-c", ROLE.format(role="operator"))


@pytest.fixture
def ruled_page(stack: Stack, chromium: Browser, places: Places) -> Iterator[Page]:
    """The page of a run with one alert, whose rule has acted."""
    made = stack.manage("shell", "-v", "0", "-c", ACT)
    with operators_page(chromium, stack.address) as page:
        page.goto(f"{stack.address}/runs/{made.stdout.split()[-1]}/")
        yield page
    stack.manage("shell", "-v", "0", "-c", FORGET_RUN)


def test_an_alert_says_what_its_rule_asked_and_is_snoozed_by_keyboard(ruled_page: Page) -> None:
    page = ruled_page
    row = page.get_by_test_id("alert-row").filter(has_text="Divergence · made/loss · step 5")
    action = row.get_by_test_id("alert-action")
    expect(action).to_contain_text("The rule asked: save a checkpoint")
    command = page.locator(f'[id="{(action.get_by_role("link").get_attribute("href") or "")[1:]}"]')
    expect(command).to_contain_text("rule divergence")
    action.get_by_role("link").press("Enter")
    expect(command).to_be_in_viewport()

    row.locator("summary").press("Enter")
    row.get_by_role("button", name="8 hours").press("Enter")
    expect(page.locator("#toasts")).to_contain_text("Snoozed: Divergence · made/loss · step 5")
    expect(row.locator("summary")).to_be_focused()
    page.set_viewport_size({"width": 375, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 375

    page.locator("#alerts-title").get_by_role("link").press("Enter")
    rule = page.locator('[data-rule="divergence made/loss"]')
    expect(rule).to_contain_text("of this run")
    expect(rule).to_contain_text(re.compile(r"snoozed until \d{4}-"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_a_rule_is_tried_before_it_is_stored(ruled_page: Page, stack: Stack, places: Places) -> None:
    page = ruled_page
    page.goto(f"{stack.address}/runs/{places['live']}/rules/")
    expect(page.locator('[data-rule="non-finite"]')).to_contain_text("would have fired")
    page.get_by_test_id("new-rule").press("Enter")
    page.get_by_label("Series").fill("*/loss")
    page.get_by_label("Limit", exact=True).fill("0.1")
    page.get_by_test_id("try-rule").press("Enter")
    expect(page.get_by_test_id("past")).to_contain_text("Would have fired")
    expect(page.locator(".cx-mark").first).to_be_attached()
    expect(page.get_by_label("Limit", exact=True)).to_have_value("0.1")
    page.set_viewport_size({"width": 375, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
