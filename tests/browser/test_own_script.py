"""The page of a person's script: the offered commands, and the end of a script that does not read `run.stopping`."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, expect

from tests.commands.test_end_process import SOON
from tests.support.browser import Complaints, log_in
from tests.support.stack import ROOT, Stack, create_run, run_row, started_stack, wait_for

FAILING = str(ROOT / "tests" / "trainings" / "failing.py")
SCRIPTS = ROOT / "tests" / "commands"
# Remembers each text of the live region.
LISTEN = """
said = [];
new MutationObserver(() => said.push(announced.textContent)).observe(
  announced, {childList: true, characterData: true, subtree: true});
"""


def test_it_is_offered_what_it_has_registered_and_can_be_ended_if_it_does_not_look(
    chromium: Browser, screenshots
) -> None:
    with started_stack() as stack:
        late, stuck = create_run(stack, "late"), create_run(stack, "stuck")
        for run_id, script in ((late, "late_training.py"), (stuck, "unresponsive_training.py")):
            stack.train(run_id, "--quiet", "--", str(SCRIPTS / script), changed=SOON)
        for run_id in (late, stuck):
            wait_for(lambda run_id=run_id: run_row(stack, run_id)["step"] > 3, "points")
        context = chromium.new_context(locale="en-GB")
        page = context.new_page()
        complaints = Complaints(page)
        log_in(page, stack.address, "operator", "operator")
        _offers_follow_the_script(stack, page, late)
        _an_unresponsive_script_can_be_ended(stack, page, stuck)
        page.screenshot(path=screenshots / "ended-process.png")
        failing = create_run(stack, "failing")
        stack.train(failing, "--quiet", "--", FAILING, "5:fail")
        _a_failure_says_why_and_where(stack, page, failing)
        page.set_viewport_size({"width": 1366, "height": 768})
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=screenshots / "failure.png")
        assert not complaints.lines
        context.close()


def _offers_follow_the_script(stack: Stack, page, run_id: int) -> None:
    page.goto(f"{stack.address}/runs/{run_id}/")
    expect(page.get_by_test_id("stop")).to_be_enabled()
    for name in ("save", "evaluate", "extend"):
        expect(page.get_by_test_id(name)).to_be_disabled()
    expect(page.get_by_test_id("end-process")).to_be_hidden()
    page.get_by_test_id("save").click(force=True)
    expect(page.locator("#toasts")).to_contain_text("The training does not support this command.")
    page.keyboard.press("s")
    expect(page.locator("#stop-text")).to_have_text(re.compile("The script decides whether to save a checkpoint first"))
    expect(page.locator("#stop-checkpoint")).to_be_hidden()
    page.keyboard.press("Escape")
    (stack.data / "runs" / str(run_id) / "files" / "save").touch()
    expect(page.get_by_test_id("save")).to_be_enabled()
    expect(page.get_by_test_id("evaluate")).to_be_disabled()
    page.keyboard.press("s")
    expect(page.locator("#stop-checkpoint")).to_be_visible()
    page.get_by_test_id("stop-confirm").click()
    expect(page.get_by_test_id("state")).to_have_attribute("data-state", "stopped")


def _an_unresponsive_script_can_be_ended(stack: Stack, page, run_id: int) -> None:
    page.goto(f"{stack.address}/runs/{run_id}/")
    expect(page.get_by_test_id("stop")).to_be_enabled()
    expect(page.get_by_test_id("announced")).to_have_text("")
    page.evaluate(LISTEN)
    page.keyboard.press("s")
    page.get_by_test_id("stop-confirm").click()
    shown = page.get_by_test_id("not-looking")
    expect(shown).to_contain_text("has not read run.stopping")
    # Its seconds change all the time, so nothing that contains it is a live region.
    expect(page.locator("[role=status], [role=alert], [aria-live]").filter(has=shown)).to_have_count(0)
    assert shown.get_attribute("role") is None
    expect(page.get_by_test_id("end-process")).to_be_visible()
    page.keyboard.press("k")
    expect(page.locator("#end-dialog")).to_contain_text("Everything since the newest checkpoint is lost.")
    page.locator("#end-reason").fill("it does not look")
    page.get_by_test_id("end-confirm").click()
    expect(page.get_by_test_id("state")).to_have_attribute("data-state", "stopped")
    expect(page.get_by_test_id("banner")).to_contain_text(re.compile(r"Ended by .+ at .*ended by a command"))
    expect(page.get_by_test_id("not-looking")).to_be_hidden()
    expect(page.get_by_test_id("announced")).to_have_text("State: stopped.")
    told = ["The script no longer reads run.stopping, so commands wait.", "State: stopped."]
    assert page.evaluate("said") == told


def _a_failure_says_why_and_where(stack: Stack, page, run_id: int) -> None:
    page.goto(f"{stack.address}/runs/{run_id}/")
    expect(page.get_by_test_id("state")).to_have_attribute("data-state", "failed")
    # If it failed while the page was open, the details wait for a click.
    page.reload()
    expect(page.get_by_test_id("failure-traceback")).to_contain_text("Traceback (most recent call last)")
    expect(page.get_by_test_id("failure-lines")).to_contain_text("Error")
    expect(page.locator("#failure-command")).to_contain_text(f"--run-id {run_id}")
    page.get_by_test_id("failure-copy").click()
    expect(page.locator("#toasts")).to_contain_text(re.compile("Copied|Ctrl-C"))
    page.locator("#console [data-slot=search]").fill("hides every line")
    page.get_by_test_id("failure-jump").click()
    shown = page.locator(".line-shown")
    expect(shown).to_be_in_viewport()
    expect(shown).to_contain_text("Traceback (most recent call last)")
