"""Steering a real training from its page: knobs, pause, checkpoint, note, stop; and what a viewer sees of it."""

from __future__ import annotations

import io
import re
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from steersman.portal.logins import Login
from steersman.portal.pushing import push
from tests.support.browser import Complaints, open_run
from tests.support.stack import ROOT, Stack, rows, run_row, started_stack, wait_for

DESK = {"width": 1360, "height": 1000}
SCREEN = {"width": 1440, "height": 900}
PHONE = {"width": 375, "height": 740}
# A time with its year and its zone.
FULL_TIME = re.compile(r"20\d\d, .*\d\d:\d\d:\d\d \S+$")
LOSS = '[data-testid=chart][data-series~="train/loss"]'


@pytest.fixture(scope="module")
def lab() -> Iterator[Stack]:
    """A stack with a run of the image recipe that trains until it is stopped."""
    with started_stack() as stack:
        made = stack.manage(
            "create_run", "--quiet", "--project", "lab", "--recipe", "tests.recipes.unhurried:Unhurried",
            "--name", "Steered", "--device", "cpu", cwd=ROOT,
        )  # fmt: skip
        assert "1" in made.stdout
        stack.train(1, "--quiet")
        yield stack


@pytest.fixture(scope="module")
def operator(chromium: Browser, lab: Stack) -> Iterator[Page]:
    page = open_run(chromium, lab, "operator", DESK)
    complaints = Complaints(page)
    expect(page.locator(f"{LOSS} canvas")).to_be_visible()
    yield page
    assert not complaints.lines
    page.context.close()


@pytest.fixture(scope="module")
def viewer(chromium: Browser, lab: Stack, operator: Page) -> Iterator[Page]:
    page = open_run(chromium, lab, "viewer", DESK)
    yield page
    page.context.close()


def knob(page: Page, name: str = "learning_rate") -> Locator:
    return page.locator(f'[data-testid=knob][data-knob="{name}"][data-group=""]')


def command_log(page: Page, text: str | re.Pattern[str]) -> Locator:
    return page.get_by_test_id("command-row").filter(has_text=text)


def drag(page: Page, slider: Locator, fraction: float) -> None:
    """Drag the slider's thumb to a fraction of its width without releasing it."""
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * fraction, box["y"] + box["height"] / 2, steps=4)


def values_of(lab: Stack, kind: str) -> list[dict[str, object]]:
    return rows(lab, "SELECT * FROM runs_command WHERE kind = ? ORDER BY sent_at", kind)


def test_a_screen_shows_the_curves_and_the_knobs_without_scrolling(operator: Page, viewer: Page) -> None:
    for page in (operator, viewer):
        page.set_viewport_size(SCREEN)
        tops = "[...document.querySelectorAll('#stats, #chart-tools, #charts, #steering')].map(e => e.offsetTop)"
        page.add_init_script(f"addEventListener('DOMContentLoaded', () => window.begun = {tops})")
        page.reload()
        expect(page.locator(f"{LOSS} canvas")).to_be_visible()
        expect(knob(page).get_by_test_id("knob-value")).to_be_visible()
        for place in (page.locator(LOSS), page.locator('[data-series~="train/accuracy"]').first, knob(page)):
            box = place.bounding_box()
            assert box is not None and box["y"] + box["height"] <= SCREEN["height"]
        assert page.evaluate(f"{tops}.every((top, place) => Math.abs(top - begun[place]) < 4)"), "nothing jumps"
        page.set_viewport_size(DESK)


def test_folded_knobs_tell_their_values_and_stay_folded(chromium: Browser, lab: Stack) -> None:
    page = open_run(chromium, lab, "operator", SCREEN)
    value, summary = knob(page).get_by_test_id("knob-value"), page.get_by_test_id("knobs-summary")
    expect(value).to_be_visible()
    page.set_viewport_size(PHONE)  # there they would push the curves out of sight
    expect(value).to_be_hidden()
    expect(summary).to_contain_text("Learning rate 0.003 · ")
    fold = page.get_by_test_id("knobs-fold")
    expect(fold).to_have_attribute("aria-expanded", "false")
    fold.press("Enter")
    expect(fold).to_have_attribute("aria-expanded", "true")
    expect(value).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.reload()
    expect(value).to_be_visible()
    page.set_viewport_size(SCREEN)
    fold.click()
    expect(summary).to_be_visible()
    page.reload()
    expect(summary).to_contain_text("Learning rate")
    expect(value).to_be_hidden()
    page.locator("h1").click()
    page.keyboard.press("1")
    expect(value).to_be_visible()
    page.context.close()


def test_dragging_shows_the_value_to_be_and_letting_go_sends_it(operator: Page, viewer: Page, lab: Stack) -> None:
    row = knob(operator)
    expect(row.get_by_test_id("knob-value")).to_have_text("0.003")
    drag(operator, row.get_by_test_id("knob-slider"), 0.66)
    expect(row.get_by_test_id("knob-draft")).to_have_text(re.compile(r"^→ 0\.00\d+$|^→ 0\.0\d+$"))
    wanted = row.get_by_test_id("knob-draft").inner_text().removeprefix("→ ")
    assert not values_of(lab, "set_knob"), "nothing is sent while it is held"
    operator.mouse.up()
    note = row.get_by_test_id("knob-note")
    expect(note).to_have_text(re.compile(rf"^0\.003 → {re.escape(wanted)}.* · at step \d+ · Operator Lab$"))
    expect(row.get_by_test_id("knob-value")).to_have_text(wanted)
    (command,) = values_of(lab, "set_knob")
    assert (command["state"], command["old_value"]) == ("applied", "0.003")
    assert float(str(command["new_value"])) == float(wanted)

    step = command["step"]
    for page in (operator, viewer):
        entry = command_log(page, f"Learning rate 0.003 → {wanted}")
        expect(entry).to_contain_text(f"Operator Lab · step {step}")
        expect(entry.locator("[data-slot=state]")).to_have_text("applied")
        expect(page.locator(LOSS)).to_have_attribute("data-marks", "1")
        page.locator(LOSS).focus()
        page.keyboard.press("m")
        tip = page.locator(LOSS).get_by_test_id("mark-tip")
        expect(tip).to_contain_text(f"Learning rate 0.003 → {wanted}")
        expect(tip).to_contain_text(f"step {step} · Operator Lab")
    expect(knob(viewer).get_by_test_id("knob-value")).to_have_text(wanted)
    expect(command_log(operator, "Learning rate").get_by_test_id("effect")).to_contain_text("±")


def test_marks_follow_the_axis_and_can_be_hidden(operator: Page) -> None:
    chart = operator.locator(LOSS)
    for over in ("time", "epoch", "relative", "step"):
        operator.select_option("#chart-over", over)
        expect(chart).to_have_attribute("data-marks", "1")
    operator.locator("#chart-marks").uncheck()
    expect(chart).to_have_attribute("data-marks", "0")
    operator.locator("#chart-marks").check()
    expect(chart).to_have_attribute("data-marks", "1")


def test_the_keyboard_moves_a_slider_and_sends_with_enter(operator: Page, lab: Stack) -> None:
    row = knob(operator)
    before = row.get_by_test_id("knob-value").inner_text()
    slider = row.get_by_test_id("knob-slider")
    slider.focus()
    operator.keyboard.press("ArrowLeft")
    operator.keyboard.press("ArrowLeft")
    expect(row.get_by_test_id("knob-note")).to_have_text("Enter sends it, Escape discards it.")
    operator.keyboard.press("Escape")
    expect(row.get_by_test_id("knob-draft")).to_have_text("")
    sent = len(values_of(lab, "set_knob"))
    operator.keyboard.press("ArrowLeft")
    wanted = row.get_by_test_id("knob-draft").inner_text().removeprefix("→ ")
    operator.keyboard.press("Enter")
    expect(row.get_by_test_id("knob-value")).to_have_text(wanted)
    assert wanted != before and len(values_of(lab, "set_knob")) == sent + 1


def test_a_text_is_typed_and_sent_with_enter(operator: Page) -> None:
    row = knob(operator, "motto")
    field = row.get_by_test_id("knob-field")
    expect(field).to_have_value("slow and steady")
    field.fill("")
    expect(row.get_by_test_id("knob-note")).to_have_text("Enter sends it, Escape discards it.")
    field.press("Escape")
    expect(field).to_have_value("slow and steady")
    field.fill("far too long to be a motto")
    field.press("Enter")
    refused = "Refused: motto takes text of at most 20 characters, not 'far too long to be a motto'."
    expect(row.get_by_test_id("knob-note")).to_have_text(refused)
    field.fill("123")
    field.press("Enter")
    expect(row.get_by_test_id("knob-value")).to_have_text("123")
    expect(command_log(operator, "slow and steady → 123")).to_be_visible()


def first_chart(page: Page) -> int:
    top = "one => Math.round(one.getBoundingClientRect().top + scrollY)"
    return int(page.locator("[data-testid=chart]").first.evaluate(top))


def test_what_people_write_is_at_once_on_the_pages_of_others(
    operator: Page, viewer: Page, lab: Stack, screenshots: Path
) -> None:
    before = first_chart(viewer)
    operator.get_by_test_id("run-menu").locator("summary").click()
    operator.get_by_role("button", name="Rename…").click()
    name = operator.locator("#about-name")
    expect(name).to_be_focused()
    name.fill("  ")
    operator.locator("#about-description").fill("Tries **half** the rate.\n\n<img src=x onerror=alert(1)>")
    save = operator.locator("#about-dialog").get_by_role("button", name="Save")
    save.click()
    assert not name.evaluate("field => field.validity.valid")
    expect(operator.locator("#about-dialog")).to_be_visible()
    name.fill("Steered well")
    save.click()
    expect(operator.locator("#about-dialog")).to_be_hidden()
    operator.locator("#new-tag").fill("calm, baseline")
    operator.locator("#new-tag").press("Enter")
    for page in (operator, viewer):
        expect(page.locator("h1")).to_contain_text("Steered well")
        expect(page).to_have_title(re.compile("Steered well"))
        expect(page.get_by_test_id("description").locator("strong")).to_have_text("half")
        expect(page.get_by_test_id("description").locator("img")).to_have_count(0)
        expect(page.get_by_test_id("tags").locator(".tag a")).to_have_text(["baseline", "calm"])
    wait_for(lambda: first_chart(viewer) == before, "the charts to be where they were")
    operator.get_by_role("button", name="Remove the tag calm").click()
    expect(viewer.get_by_test_id("tags").locator(".tag a")).to_have_text(["baseline"])
    operator.get_by_test_id("run-menu").locator("summary").click()
    operator.screenshot(path=screenshots / "run-menu.png")
    operator.get_by_role("button", name="Archive").click()
    expect(operator.locator("#toasts")).to_contain_text("stop it first, then archive it")
    viewer.get_by_test_id("run-menu").locator("summary").click()
    expect(viewer.get_by_test_id("run-menu").get_by_role("link", name="Epochs (CSV)")).to_be_visible()
    expect(viewer.get_by_test_id("run-menu").get_by_role("button")).to_have_count(0)
    viewer.keyboard.press("Escape")
    operator.get_by_test_id("run-menu").locator("summary").click()
    operator.get_by_role("button", name="Write a review…").click()
    note = operator.locator("#about-review")
    expect(note).to_be_focused()
    note.fill("Worth **another** run")
    save.click()
    expect(viewer.get_by_test_id("review-note").locator("strong")).to_have_text("another")
    expect(viewer.get_by_test_id("review-note")).to_contain_text("by Operator Lab")
    expect(viewer.get_by_test_id("edit-review")).to_have_count(0)
    operator.get_by_test_id("edit-review").click()
    expect(note).to_have_value("Worth **another** run")
    operator.keyboard.press("Escape")
    operator.get_by_test_id("describe").click()
    name.fill("Steered")
    save.click()
    expect(viewer.locator("h1")).to_contain_text(re.compile("^Steered #"))


def test_while_paused_every_control_works(operator: Page, viewer: Page, lab: Stack, screenshots: Path) -> None:
    operator.locator("h1").click()
    operator.keyboard.press("p")
    expect(operator.get_by_test_id("state")).to_have_attribute("data-state", "paused")
    expect(operator.get_by_test_id("paused")).to_contain_text("by Operator Lab")
    expect(operator.get_by_test_id("paused")).to_contain_text("All controls still work")
    expect(operator.get_by_test_id("paused").locator("time")).to_have_attribute("title", FULL_TIME)
    expect(viewer.get_by_test_id("paused")).to_be_visible()
    for page in (operator, viewer):
        expect(page.get_by_test_id("announced")).to_have_text("State: paused.")
        # An alert of a slow machine may come before it.
        expect(page).to_have_title(re.compile(r"(^|· )paused · \d+ % · "))
        expect(page.locator("link[rel=icon]")).to_have_attribute("href", re.compile("^data:image/svg"))
    icon = viewer.locator("link[rel=icon]").get_attribute("href") or ""
    step = run_row(lab, 1)["step"]

    field = knob(operator).get_by_test_id("knob-field")
    field.fill("9")
    expect(knob(operator).get_by_test_id("knob-note")).to_have_text(
        "learning_rate takes a number from 0.000001 to 1, not 9."
    )
    operator.get_by_label("Reason for the next change").fill("calmer")
    field.fill("5e-4")
    field.press("Enter")
    done = re.compile(rf"→ 0\.0005 \(in effect 0\.000\d+\) · at step {step} · Operator Lab$")
    expect(knob(operator).get_by_test_id("knob-note")).to_have_text(done)
    expect(command_log(operator, "→ 0.0005")).to_contain_text("“calmer”")
    operator.locator("h1").click()
    operator.keyboard.press("c")
    operator.locator("#save-name").fill("while paused")
    operator.get_by_test_id("save-confirm").click()
    saved = operator.get_by_test_id("checkpoint-row").filter(has_text="while paused")
    expect(saved).to_contain_text(f"step {step}")
    expect(saved.locator(".chip")).to_have_text("named")
    operator.keyboard.press("n")
    operator.locator("#note-body").fill("paused to think")
    operator.keyboard.press("Control+Enter")
    expect(command_log(operator, "Note: paused to think").locator("[data-slot=state]")).to_have_text("applied")
    operator.keyboard.press("e")
    expect(command_log(operator, "Evaluate").locator("[data-slot=state]")).to_have_text("applied")
    operator.screenshot(path=screenshots / "steering-paused.png", full_page=True)
    assert run_row(lab, 1)["step"] == step

    operator.get_by_test_id("resume").press("Enter")
    expect(operator.get_by_test_id("state")).to_have_attribute("data-state", "running")
    expect(operator.get_by_test_id("paused")).to_be_hidden()
    expect(operator.get_by_test_id("pause")).to_be_focused()  # it replaced the button that was pressed
    expect(viewer.get_by_test_id("announced")).to_have_text("State: running.")
    expect(viewer.locator("link[rel=icon]")).not_to_have_attribute("href", icon)
    wait_for(lambda: run_row(lab, 1)["step"] > step, "steps after the pause")


def is_pushed_and_started_elsewhere(operator: Page, lab: Stack, saved: Locator) -> None:
    """Push a checkpoint while the page is open, which then offers the command for another host."""
    place, elsewhere = saved.get_by_test_id("checkpoint-place"), saved.get_by_test_id("elsewhere")
    host = socket.gethostname()
    expect(place).to_have_text(f"on {host}")
    expect(elsewhere).to_have_text("Copy command to start elsewhere")
    expect(elsewhere).to_have_attribute("aria-disabled", "true")
    elsewhere.press("Enter")
    expect(operator.locator("#toasts")).to_contain_text(
        f"The portal has no copy. If run.save_checkpoint() saved it, send it from {host}"
    )
    token = lab.manage("create_token", "--project", "lab", "--user", "operator", "--scope", "train").stdout.strip()
    (row,) = rows(lab, "SELECT id, path FROM runs_checkpoint WHERE name = ?", "while paused")
    push(Login(lab.address, token), 1, lab.data / "runs" / "1" / row["path"], 60.0, print)
    expect(place).to_have_text(f"on {host}, also in the portal")
    expect(elsewhere).to_have_attribute("aria-disabled", "false")
    expect(elsewhere).to_be_focused()
    elsewhere.press("Enter")
    expect(saved.get_by_test_id("resume-command")).to_have_text(
        f"steersman run --from 1:{row['id']} -- python 'my train.py'"
    )


def test_a_checkpoint_is_downloaded_and_resumed_from(operator: Page, lab: Stack) -> None:
    saved = operator.get_by_test_id("checkpoint-row").filter(has_text="while paused")
    with operator.expect_download() as loading:
        saved.get_by_test_id("download").click()
    assert loading.value.suggested_filename.endswith("-while-paused.tar")
    with tarfile.open(fileobj=io.BytesIO(loading.value.path().read_bytes())) as archive:
        names = archive.getnames()
    assert any(name.endswith("/manifest.json") for name in names) and len(names) > 1
    # Sent, delivered and applied, it is one entry.
    asked = operator.locator("#events > *").filter(has_text=re.compile("while paused.* by "))
    expect(asked).to_have_count(1)
    expect(asked).to_contain_text("applied")
    saved.get_by_role("button", name="Copy command to resume from while paused").click()
    command = saved.get_by_test_id("resume-command")
    # By its id, because a newer one may have the same name.
    (checkpoint,) = rows(lab, "SELECT id FROM runs_checkpoint WHERE name = ?", "while paused")
    expect(command).to_have_text(f"python manage.py train --run-id 1 --from {checkpoint['id']}")
    # A run of a host without the database has its own command. Such a host starts scripts, no recipes.
    (run,) = rows(lab, "SELECT recipe_id FROM runs_run WHERE id = 1")
    program = (
        "from django.contrib.auth.models import User\nfrom runs.models import RemoteLaunch, Run\n"
        "run, user = Run.objects.get(pk=1), User.objects.get(username='operator')\n"
        "Run.objects.filter(pk=1).update(recipe=None)\n"
        "words = ['steersman', 'run', '--key', 'k', '--', 'python', 'my train.py']\n"
        "RemoteLaunch.objects.create(project=run.project, created_by=user, key='k', run=run, started=words, folder='~')"
    )
    lab.manage("shell", "-v", "0", "-c", program)
    operator.reload()
    saved.get_by_role("button", name="Copy command to start again: the one that started this run on its host").click()
    expect(command).to_have_text("cd ~ && steersman run --key k -- python 'my train.py'")
    is_pushed_and_started_elsewhere(operator, lab, saved)
    program = (
        "from runs.models import RemoteLaunch, Run\nRemoteLaunch.objects.all().delete()\n"
        f"Run.objects.filter(pk=1).update(recipe={run['recipe_id']})\n"
    )
    lab.manage("shell", "-v", "0", "-c", program)
    operator.reload()
    expect(saved.get_by_role("button", name="Copy command to resume from while paused")).to_have_text(
        "Copy command to resume"
    )


def test_a_checkpoint_is_marked_by_the_keyboard_and_others_see_it(operator: Page, viewer: Page, lab: Stack) -> None:
    saved, seen = (page.get_by_test_id("checkpoint-row").filter(has_text="while paused") for page in (operator, viewer))
    keep = saved.get_by_role("button", name="Keep while paused after the run has ended")
    for pressed in ("true", "false"):
        keep.press("Enter")
        expect(keep).to_have_attribute("aria-pressed", pressed)
        expect(keep).to_be_focused()
        expect(seen.get_by_test_id("kept")).to_have_count(int(pressed == "true"))
    expect(seen.get_by_test_id("keep")).to_have_count(0)
    (checkpoint,) = rows(lab, "SELECT keep FROM runs_checkpoint WHERE name = ?", "while paused")
    assert not checkpoint["keep"]


def test_it_is_rolled_back_by_the_keyboard(operator: Page, viewer: Page, lab: Stack, screenshots: Path) -> None:
    (saved,) = rows(lab, "SELECT id, step FROM runs_checkpoint WHERE name = ?", "while paused")
    operator.keyboard.press("b")
    choice = operator.get_by_test_id("roll-back-checkpoint")
    expect(choice).to_be_focused()
    expect(choice.locator("option").last).to_have_attribute("title", FULL_TIME)
    choice.select_option(str(saved["id"]))
    operator.screenshot(path=screenshots / "roll-back.png")
    operator.get_by_test_id("roll-back-halve").click()
    for page in (operator, viewer):
        told = command_log(page, f"Roll back to step {saved['step']}")
        expect(told).to_have_attribute("data-state", "applied")
    (event,) = rows(lab, "SELECT COUNT(*) AS count FROM runs_storedevent WHERE run_id = 1 AND kind = 'rolled_back'")
    assert event["count"] == 1


def test_what_waits_for_its_step_can_be_withdrawn(operator: Page, viewer: Page) -> None:
    operator.get_by_test_id("pause-later").click()
    operator.select_option("#pause-when", "step")
    operator.locator("#pause-dialog input[name=at]").fill("900000000")
    operator.get_by_test_id("pause-confirm").click()
    waiting = command_log(operator, "at step 900000000")
    expect(waiting.locator("[data-slot=state]")).to_have_text("scheduled")
    expect(command_log(viewer, "at step 900000000").get_by_test_id("cancel")).to_have_count(0)
    waiting.get_by_test_id("cancel").click()
    expect(waiting.locator("[data-slot=state]")).to_have_text("expired")
    expect(waiting).to_contain_text("The command was cancelled.")


def test_two_people_do_not_overwrite_each_other_unknowingly(operator: Page, lab: Stack, chromium: Browser) -> None:
    owner = open_run(chromium, lab, "owner", DESK)
    row = knob(operator)
    seen = row.get_by_test_id("knob-value").inner_text()
    drag(operator, row.get_by_test_id("knob-slider"), 0.8)
    field = knob(owner).get_by_test_id("knob-field")
    field.fill("0.002")
    field.press("Enter")
    expect(row.get_by_test_id("knob-value")).to_have_text("0.002")
    expect(row.get_by_test_id("knob-draft")).to_contain_text("→")  # the thumb is not released yet
    operator.mouse.up()
    note = row.get_by_test_id("knob-note")
    expect(note).to_contain_text("Refused:")
    expect(note).to_contain_text(f"expected to be {seen}")
    expect(note).to_contain_text("Somebody else has changed it meanwhile")
    expect(row.get_by_test_id("knob-value")).to_have_text("0.002")
    # While the page still shows the refused value as pending, another change would be refused as well.
    expect(knob(owner).get_by_test_id("knob-note")).to_contain_text("Refused:")
    field.fill("0.001")
    field.press("Enter")
    place = "Number(document.querySelector('[data-knob=learning_rate] [data-testid=knob-slider]').value)"
    wait_for(lambda: operator.evaluate(place) == 500, "my slider to follow")
    owner.context.close()


def test_a_viewer_sees_it_all_and_has_no_control(viewer: Page, lab: Stack) -> None:
    asked = rows(lab, "SELECT count(*) AS number FROM runs_command")[0]["number"]
    expect(command_log(viewer, "")).to_have_count(asked)
    for control in ("controls", "stop", "pause", "knob-slider", "knob-field", "cancel", "download"):
        expect(viewer.get_by_test_id(control)).to_have_count(0)
    expect(viewer.locator("#steering-body").locator("input, button, select")).to_have_count(0)
    viewer.locator("h1").click()
    for key in "spcenx":
        viewer.keyboard.press(key)
    expect(viewer.locator("dialog[open]")).to_have_count(0)


def test_a_stall_is_told_until_it_steps_again(viewer: Page, lab: Stack) -> None:
    def tell(stalled: bool) -> None:
        event = f"StallChanged(attempt=1, stalled={stalled}, since='2026-01-02T03:04:05Z', usual_step_s=0.02)"
        imports = "from runs.recording import feed; from runs.protocol.events import StallChanged"
        lab.manage("shell", "-v", "0", "-c", f"{imports}; feed.append(1, {event})")

    expect(viewer.get_by_test_id("stalled")).to_be_hidden()
    tell(True)
    expect(viewer.get_by_test_id("stalled")).to_contain_text("stalled: no step for")
    expect(viewer.get_by_test_id("stalled")).to_have_attribute("title", re.compile("usually takes 20 ms"))
    expect(viewer.get_by_test_id("silent")).to_be_hidden()
    tell(False)
    expect(viewer.get_by_test_id("stalled")).to_be_hidden()


@pytest.mark.parametrize(("theme", "viewport"), [("dark", DESK), ("light", PHONE)])
def test_it_looks_right_in_the_dark_and_on_a_phone(
    chromium: Browser, lab: Stack, operator: Page, theme: str, viewport: dict[str, int], screenshots: Path
) -> None:
    page = open_run(chromium, lab, "operator", viewport, theme)
    page.locator(LOSS).scroll_into_view_if_needed()
    expect(page.locator(f"{LOSS} canvas")).to_be_visible()
    expect(page.get_by_test_id("command-row").first).to_be_attached()
    page.screenshot(path=screenshots / f"steering-{theme}-{viewport['width']}.png")
    page.locator("#activity").screenshot(path=screenshots / f"steering-command-log-{theme}-{viewport['width']}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    page.get_by_test_id("stop").click()
    page.locator("#stop-checkpoint").uncheck()
    expect(page.get_by_test_id("stop-loss")).to_contain_text(re.compile(r"Newest checkpoint: .+, step \d+"))
    expect(page.get_by_test_id("stop-confirm")).to_have_text("Stop without a checkpoint")
    page.screenshot(path=screenshots / f"steering-stop-{theme}-{viewport['width']}.png")
    page.keyboard.press("Escape")
    page.context.close()


def test_stopping_asks_first_and_moves_visibly(operator: Page, viewer: Page, screenshots: Path) -> None:
    operator.locator("h1").click()
    operator.keyboard.press("s")
    operator.locator("#stop-reason").fill("seen enough")
    operator.get_by_test_id("stop-confirm").click()
    expect(operator.get_by_test_id("command").filter(has_text="Stop")).to_be_visible()
    for page in (operator, viewer):
        expect(page.get_by_test_id("state")).to_have_attribute("data-state", "stopped")
        expect(command_log(page, "“seen enough”").locator("[data-slot=state]")).to_have_text("applied")
        expect(page.get_by_test_id("attempt-row")).to_contain_text("exit code 0")
    expect(operator.get_by_test_id("pause")).to_be_disabled()
    expect(operator.get_by_test_id("pause")).to_have_attribute("title", "Pause (p): The run has ended.")
    expect(operator.get_by_test_id("note")).to_be_enabled()
    expect(operator.get_by_test_id("extend")).to_be_enabled()
    expect(knob(operator).get_by_test_id("knob-slider")).to_be_disabled()
    operator.screenshot(path=screenshots / "steering-stopped.png")
