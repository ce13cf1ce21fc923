"""Alerts on the page of a run: banner, list, title of the tab, snooze; trying rules; and the story of one night."""

from __future__ import annotations

import base64
import re
import signal
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from tests.browser.conftest import Places
from tests.support.browser import operators_page
from tests.support.stack import ROOT, Stack, create_run, rows, run_row, wait_for
from tests.support.telling.fake_senders import MailServer
from tests.support.telling.scene import add_destination, sending

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
for step, title in ((4, "Fourth"), (3, "Third"), (1, "First"), (2, "Second")):
    finding = alerts.Finding("code", "critical", title, timezone.now(), step=step)
    assert alerts.begin({run}, 1, finding)
"""
FORGET = """
from runs.models import Alert
Alert.objects.filter(run_id={run}, detector="code").delete()
"""
ROLE = "from runs.models import Membership; Membership.objects.filter(user__username='operator').update(role='{role}')"

RULE = """
from django.contrib.auth.models import User
from runs.models import AlertDestination, AlertRule, Project
project = Project.objects.get(slug="lab")
AlertRule.objects.create(project=project, detector="divergence", action="save_checkpoint", dry_run=False)
AlertDestination.objects.filter(project=project).update(person=User.objects.get(username="operator"))
"""
FORGET_TELLING = """
from runs.models import AlertDestination, AlertRule
AlertRule.objects.filter(project__slug="lab").delete()
AlertDestination.objects.filter(project__slug="lab").delete()
"""
DESCENDING = str(ROOT / "tests" / "alerts" / "descending_training.py")
# Records whether the page had already prevented it.
HOLD_BACK = "stopped = []; addEventListener('submit', e => { stopped.push(e.defaultPrevented); e.preventDefault(); })"
PHONE: ViewportSize = {"width": 390, "height": 844}
LAPTOP: ViewportSize = {"width": 1366, "height": 768}


@pytest.fixture
def page(stack: Stack, chromium: Browser, places: Places) -> Iterator[Page]:
    with operators_page(chromium, stack.address) as page:
        page.goto(f"{stack.address}/runs/{places['live']}/")
        expect(page.get_by_test_id("alert-row")).to_have_count(3)
        yield page


def test_the_chart_of_the_series_marks_where_it_began(page: Page) -> None:
    loss, accuracy = (
        page.locator(f'[data-testid=chart][data-series~="train/{name}"]') for name in ("loss", "accuracy")
    )
    loss.scroll_into_view_if_needed()
    # Marks are drawn when their data arrive.
    wait_for(lambda: marks(loss) == marks(accuracy) + 3 > 3, "a mark for each of three alerts")
    marked(loss, "Alert: Spike (cleared) · step 900")


def test_a_link_of_a_message_shows_the_charts_and_marks_its_step(page: Page, stack: Stack, places: Places) -> None:
    loss = page.locator('[data-testid=chart][data-series~="train/loss"]')
    loss.scroll_into_view_if_needed()
    accuracy = page.locator('[data-testid=chart][data-series~="train/accuracy"]')
    wait_for(lambda: marks(loss) == marks(accuracy) + 3 > 3, "all marks")
    before = marks(loss)
    page.goto(f"{stack.address}/runs/{places['live']}/?step=1234")
    # The charts begin below the sticky header (96 px), also after the parts above them are painted.
    page.wait_for_function("() => Math.abs(document.querySelector('#charts').getBoundingClientRect().top - 96) < 9")
    expect(loss).to_have_attribute("data-marks", str(before + 1))
    marked(loss, "Step of the link · step 1234")


def marks(chart: Locator) -> int:
    return int(chart.get_attribute("data-marks") or 0)


def first_charts(page: Page) -> list[int]:
    """Return how far below the top of the page the first chart is, on a laptop and on a phone."""
    found = []
    for size in (LAPTOP, PHONE):
        page.set_viewport_size(size)
        top = "one => Math.round(one.getBoundingClientRect().top + scrollY)"
        found.append(int(page.locator("[data-testid=chart]").first.evaluate(top)))
    return found


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
    wait_for(lambda: first_charts(page)[0] <= 300, "the first chart to be high up")
    before = first_charts(page)

    stack.manage("shell", "-v", "0", "-c", CLEAR.format(run=places["live"], severity="critical"))
    told = page.get_by_test_id("alert-banner")
    expect(told).to_contain_text("info: Plateau")
    stack.manage("shell", "-v", "0", "-c", CLEAR.format(run=places["live"], severity="info"))
    expect(told).to_be_hidden()
    expect(page).to_have_title(re.compile("^running · "))
    wait_for(lambda: first_charts(page) == before, "the charts to be where they were")


@pytest.fixture
def some_more(stack: Stack, places: Places) -> Iterator[None]:
    """Alerts from the training's own code, which the banner shows first."""
    stack.manage("shell", "-v", "0", "-c", BEGIN.format(run=places["live"]))
    yield
    stack.manage("shell", "-v", "0", "-c", FORGET.format(run=places["live"]))


def test_who_acknowledges_takes_it_off_the_banner_and_is_named_in_the_panel(
    stack: Stack, chromium: Browser, places: Places, some_more: None
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
        # Open alerts come first, although the others are newer.
        expect(row.nth(0)).to_contain_text("Third · step 3")
        expect(row.nth(1)).to_contain_text("Fourth · step 4")
        page.get_by_role("button", name="Acknowledge all").press("Enter")
        for text in ("Third · step 3", "Fourth · step 4"):
            expect(row.filter(has_text=text)).to_contain_text("acknowledged by")
        expect(page.get_by_role("button", name="Acknowledge all")).to_have_count(0)
        expect(page.locator("#alerts")).to_be_focused()


def test_a_viewer_has_no_button(stack: Stack, chromium: Browser, places: Places, some_more: None) -> None:
    stack.manage("shell", "-v", "0", "-c", ROLE.format(role="viewer"))
    try:
        with operators_page(chromium, stack.address) as page:
            page.goto(f"{stack.address}/runs/{places['live']}/")
            expect(page.get_by_test_id("alert-banner")).to_contain_text("critical: Second · step 2")
            expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)
    finally:
        stack.manage("shell", "-v", "0", "-c", ROLE.format(role="operator"))


@pytest.fixture
def night(stack: Stack) -> Iterator[tuple[MailServer, int]]:
    """A mail server, and the id of a training whose alerts are sent there; a rule saves a checkpoint."""
    server = MailServer()
    server.start()
    add_destination(stack, "mail", "operator@example.org", name="On call")
    stack.manage("shell", "-v", "0", "-c", RULE)
    run_id = create_run(stack, "Night shift")
    mail = {"STEERSMAN_EMAIL_URL": f"smtp://127.0.0.1:{server.port}", "STEERSMAN_PUBLIC_URL": stack.address}
    with sending(stack, **mail):
        training = stack.train(run_id, "--quiet", "--", DESCENDING)
        yield server, run_id
        training.send_signal(signal.SIGINT)
        assert training.wait(120) == 0, stack.log()
    server.stop()
    stack.manage("shell", "-v", "0", "-c", FORGET_TELLING)


def test_a_rate_that_is_too_high_is_told_by_mail_and_the_run_rolled_back_by_one_tap(
    stack: Stack, chromium: Browser, night: tuple[MailServer, int], screenshots: Path
) -> None:
    server, run_id = night
    with operators_page(chromium, stack.address) as page:
        page.goto(f"{stack.address}/runs/{run_id}/")
        wait_for(lambda: run_row(stack, run_id)["step"] > 300, lambda: f"a usual loss\n{stack.log()}")
        # The mail offers a rollback only if a checkpoint before the fault is good.
        good = "SELECT 1 FROM runs_checkpoint WHERE run_id = ? AND good"
        wait_for(lambda: rows(stack, good, run_id), lambda: f"a good checkpoint\n{stack.log()}", timeout_s=120)
        rate = page.locator('[data-testid=knob][data-knob="learning_rate"][data-group=""]')
        rate.get_by_test_id("knob-field").fill("3")
        rate.get_by_test_id("knob-field").press("Enter")

        banner = page.get_by_test_id("alert-banner")
        expect(banner).to_contain_text("critical: Divergence · train/loss · step")
        row = page.get_by_test_id("alert-row").filter(has_text="Divergence · train/loss")
        action = row.get_by_test_id("alert-action")
        expect(action).to_contain_text("Action of the rule: save a checkpoint")
        loss = page.locator('[data-testid=chart][data-series~="train/loss"]')
        marked(loss, "Alert: Divergence (open) · step")
        command = page.locator(f'[id="{(action.get_by_role("link").get_attribute("href") or "")[1:]}"]')
        action.get_by_role("link").press("Enter")
        expect(command).to_be_in_viewport()
        expect(command).to_contain_text("rule divergence")

        row.locator("summary").press("Enter")
        row.get_by_role("button", name="8 hours").press("Enter")
        expect(page.locator("#toasts")).to_contain_text("Snoozed: Divergence · train/loss")
        expect(row.locator("summary")).to_be_focused()
        look_at(page, screenshots, "alert")

        wait_for(lambda: server.mails, lambda: f"the mail\n{stack.log()}")
        mail = server.mails[0][1]
        plain = mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
        assert str(mail["To"]) == "operator@example.org" and "Night shift" in str(mail["Subject"])
        assert "Divergence" in plain and f"{stack.address}/runs/{run_id}/?step=" in plain
        phone = chromium.new_context(viewport=PHONE, locale="en-GB").new_page()  # type: ignore[arg-type]
        phone.set_content(shown(mail))
        assert phone.evaluate("[...document.images].every((image) => image.naturalWidth > 300)"), "a picture is missing"
        assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        phone.screenshot(path=screenshots / "alert-mail-phone.png", full_page=True)

        # Nobody is logged in on this phone: the link is the operator's.
        assert "Learning rate × 0.5: " in plain
        phone.goto(re.findall(r"^Roll back and halve the rate: (\S+)", plain, re.MULTILINE)[0])
        asked = re.compile(r"Roll back to step \d+ and set learning_rate to 0\.5 times its value at that step\?")
        expect(phone.get_by_role("heading")).to_have_text(asked)
        expect(phone.get_by_test_id("who")).to_have_text("Operator Lab")
        assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], "the button is too wide"
        phone.screenshot(path=screenshots / "alert-link-phone.png", full_page=True)
        phone.get_by_test_id("act").press("Enter")
        expect(phone.get_by_test_id("outcome")).to_have_text("The command was sent. It takes effect at the next step.")
        phone.context.close()

        # The curve goes on from the checkpoint, with half of the rate that it had there.
        expect(rate.get_by_test_id("knob-value")).to_have_text("0.05")
        expect(row).to_have_attribute("data-state", "cleared")
        expect(page.get_by_role("alert").filter(has_text="Divergence")).to_have_count(0)
        expect(row.get_by_test_id("after-roll-back")).to_contain_text("Since the rollback: train/loss")
        rolled_back = page.get_by_test_id("command-row").filter(has_text="roll back")
        for text in ("Learning rate × 0.5", "Operator Lab", "by a link sent to On call"):
            expect(rolled_back).to_contain_text(text)
        expect(page.get_by_test_id("good").first).to_be_visible()
        look_at(page, screenshots, "alert-over")

        page.locator("#alerts-title").get_by_role("link").press("Enter")
        rule = page.locator('[data-rule="divergence train/loss"]')
        expect(rule).to_contain_text("of this run")
        expect(rule).to_contain_text(re.compile(r"snoozed until .*\d\d:\d\d:\d\d"))
        page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        page.screenshot(path=screenshots / "alert-rules-phone.png")


def marked(chart: Locator, text: str) -> None:
    """Step through the marks of a chart, back and forth, until one has `text`."""
    chart.scroll_into_view_if_needed()
    chart.focus()
    tip = chart.get_by_test_id("mark-tip")

    def found() -> bool:
        # Marks are drawn when data arrives, and a cursor at the last one stays there.
        for key in "mM":
            for _ in range(10):
                chart.press(key)
                if text in tip.inner_text():
                    return True
        return False

    wait_for(found, f"a mark that says {text!r}")


def look_at(page: Page, screenshots: Path, name: str) -> None:
    """Take screenshots of a page in light, in dark and on a phone, and check that it fits."""
    desk = page.viewport_size
    for scheme, size in (("light", desk), ("dark", desk), ("light", PHONE)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]  # type: ignore[index]
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=screenshots / f"{name}-{scheme}-{size['width']}.png", full_page=True)  # type: ignore[index]
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(desk)  # type: ignore[arg-type]


def shown(mail: EmailMessage) -> str:
    """Return the HTML of a mail with its pictures, as a mail program shows it."""
    html: str = mail.get_body(("html",)).get_content()  # type: ignore[union-attr]
    for part in mail.walk():
        if part.get_content_type() == "image/png":
            picture = base64.b64encode(part.get_payload(decode=True)).decode()
            html = html.replace(f"cid:{str(part['Content-ID']).strip('<>')}", f"data:image/png;base64,{picture}")
    return html


def test_a_rule_is_tried_before_it_is_stored(page: Page, stack: Stack, places: Places) -> None:
    page.goto(f"{stack.address}/runs/{places['live']}/rules/")
    progress = page.get_by_test_id("trial-progress").locator("progress")
    expect(progress).to_be_hidden()
    page.evaluate(HOLD_BACK)
    for stopped in ([False], [False, True]):
        page.get_by_test_id("try-rules").press("Enter")
        expect(progress).to_be_visible()
        assert page.evaluate("stopped") == stopped
    page.reload()
    page.get_by_test_id("try-rules").press("Enter")
    expect(page.locator('[data-rule="non-finite"]')).to_contain_text("would have fired")
    expect(progress).to_be_hidden()
    page.get_by_test_id("new-rule").press("Enter")
    # While a person types, by keyboard or touch, a browser opens the list of options.
    offered = page.get_by_label("Series").evaluate("box => [...box.list.options].map(each => each.value)")
    assert "train/loss" in offered
    assert "learning_rate" in page.get_by_label("Knob", exact=True).evaluate(
        "box => [...box.list.options].map(each => each.value)"
    )
    page.get_by_label("Series").fill("*/lost")
    page.get_by_label("Limit", exact=True).fill("0.1")
    page.get_by_test_id("try-rule").press("Enter")
    expect(page.get_by_text("No recent run has logged such a series.")).to_be_visible()
    expect(page.get_by_label("Series")).to_have_accessible_description(re.compile("No recent run has logged"))
    page.get_by_label("Series").fill("*/loss")
    page.get_by_test_id("try-rule").press("Enter")
    expect(page.get_by_test_id("trial-result")).to_contain_text("Would have fired")
    expect(page.locator(".cx-mark").first).to_be_attached()
    expect(page.get_by_label("Limit", exact=True)).to_have_value("0.1")
    page.set_viewport_size({"width": 375, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
