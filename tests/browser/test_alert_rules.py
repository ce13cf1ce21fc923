"""Rules on the pages: what one did beside its alert, a snooze, and trying one on the past of a run."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Places
from tests.support.browser import operators_page
from tests.support.stack import Stack

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
FORGET = "from runs.models import Run; Run.objects.filter(name='ruled').delete()"


@pytest.fixture
def page(stack: Stack, chromium: Browser, places: Places) -> Iterator[Page]:
    """The page of a run with one alert, whose rule has acted."""
    made = stack.manage("shell", "-v", "0", "-c", ACT)
    with operators_page(chromium, stack.address) as page:
        page.goto(f"{stack.address}/runs/{made.stdout.split()[-1]}/")
        yield page
    stack.manage("shell", "-v", "0", "-c", FORGET)


def test_an_alert_says_what_its_rule_asked_and_is_snoozed_by_keyboard(page: Page) -> None:
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


def test_a_rule_is_tried_before_it_is_stored(page: Page, stack: Stack, places: Places) -> None:
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
