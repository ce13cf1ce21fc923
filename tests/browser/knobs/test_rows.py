"""The rows of knobs: the keys of a slider, its width, and *Undo*."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.browser import Complaints, open_run
from tests.support.stack import ROOT, Stack, rows, started_stack

LAPTOP = {"width": 1440, "height": 900}
PHONE = {"width": 375, "height": 740}


@pytest.fixture(scope="module")
def lab() -> Iterator[Stack]:
    """A stack with a run of the image recipe that trains until it is stopped."""
    with started_stack() as stack:
        stack.manage(
            "create_run", "--quiet", "--project", "lab", "--recipe", "tests.recipes.unhurried:Unhurried",
            "--name", "Turned", "--device", "cpu", cwd=ROOT,
        )  # fmt: skip
        stack.train(1, "--quiet")
        yield stack


@pytest.fixture(scope="module")
def operator(chromium: Browser, lab: Stack) -> Iterator[Page]:
    page = open_run(chromium, lab, "operator", LAPTOP)
    complaints = Complaints(page)
    expect(knob(page).get_by_test_id("knob-value")).to_have_text("0.003")
    yield page
    assert not complaints.lines
    page.context.close()


def knob(page: Page, name: str = "learning_rate") -> Locator:
    return page.locator(f'[data-testid=knob][data-knob="{name}"][data-group=""]')


def undo_of(row: Locator) -> Locator:
    return row.get_by_test_id("knob-undo")


def changes(lab: Stack) -> list[dict[str, Any]]:
    return rows(lab, "SELECT * FROM runs_command WHERE kind = 'set_knob' ORDER BY sent_at")


def place(row: Locator) -> int:
    return int(row.get_by_test_id("knob-slider").input_value())


def test_keys_move_a_slider_by_a_hundredth_a_thousandth_or_a_tenth(operator: Page, lab: Stack) -> None:
    row = knob(operator)
    draft, before = row.get_by_test_id("knob-draft"), place(row)
    row.get_by_test_id("knob-slider").focus()
    # The slider has a thousand places.
    at = before
    for key, step in {
        "ArrowRight": 10, "Shift+ArrowRight": 1, "Shift+ArrowUp": 1, "PageUp": 100, "ArrowUp": 10,
        "Shift+ArrowLeft": -1, "Shift+ArrowDown": -1, "ArrowLeft": -10, "PageDown": -100, "ArrowDown": -10,
    }.items():  # fmt: skip
        shown = draft.inner_text()
        operator.keyboard.press(key)
        at += step
        assert place(row) == at, key
        assert draft.inner_text() != shown, key
    assert at == before
    operator.keyboard.press("Escape")
    expect(draft).to_have_text("")
    operator.keyboard.press("Shift+ArrowLeft")
    wanted = draft.inner_text().removeprefix("→ ")
    assert not changes(lab), "nothing is sent before Enter"
    operator.keyboard.press("Enter")
    expect(row.get_by_test_id("knob-value")).to_have_text(wanted)
    assert 0.98 < float(wanted) / 0.003 < 1
    row.get_by_test_id("knob-field").fill("0.0030123")
    row.get_by_test_id("knob-field").press("Enter")
    expect(row.get_by_test_id("knob-value")).to_have_text("0.0030123")


def test_shift_that_is_pressed_during_a_drag_does_not_keep_the_value_from_being_sent(operator: Page) -> None:
    row = knob(operator)
    box = row.get_by_test_id("knob-slider").bounding_box()
    assert box
    middle = box["y"] + box["height"] / 2
    operator.mouse.move(box["x"] + box["width"] / 2, middle)
    operator.mouse.down()
    operator.keyboard.down("Shift")
    operator.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=3)
    wanted = row.get_by_test_id("knob-draft").inner_text().removeprefix("→ ")
    operator.mouse.up()
    operator.keyboard.up("Shift")
    expect(row.get_by_test_id("knob-value")).to_have_text(wanted)
    row.get_by_test_id("knob-field").fill("0.003")
    row.get_by_test_id("knob-field").press("Enter")
    expect(row.get_by_test_id("knob-value")).to_have_text("0.003")


def test_a_slider_is_as_wide_as_its_card(operator: Page) -> None:
    for viewport in (LAPTOP, PHONE):
        operator.set_viewport_size(viewport)  # type: ignore[arg-type]
        fold = operator.get_by_test_id("knobs-fold")
        if fold.get_attribute("aria-expanded") == "false":
            fold.click()
        row = knob(operator)
        boxes = [row.get_by_test_id(part).bounding_box() for part in ("knob-slider", "knob-field")]
        slider, field = (box or pytest.fail("it is not drawn") for box in boxes)
        inner = """row => {
            const card = row.closest(".knob-card"), style = getComputedStyle(card);
            return card.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
        }"""
        assert abs(slider["width"] - row.evaluate(inner)) <= 1, viewport
        assert field["y"] >= slider["y"] + slider["height"], viewport
        assert operator.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    operator.set_viewport_size(LAPTOP)  # type: ignore[arg-type]


def test_undo_sends_the_value_before_the_last_change_whoever_made_it(
    operator: Page, lab: Stack, chromium: Browser
) -> None:
    owner = open_run(chromium, lab, "owner", LAPTOP)
    field = knob(owner).get_by_test_id("knob-field")
    field.fill("0.002")
    field.press("Enter")
    row = knob(operator)
    value, undo = row.get_by_test_id("knob-value"), undo_of(row)
    expect(value).to_have_text("0.002")
    expect(undo).to_have_attribute("title", "Undo: set 0.003 again")
    expect(undo_of(knob(operator, "motto"))).to_be_hidden()  # nobody has changed it
    sent = len(changes(lab))
    operator.get_by_label("Reason for the next change").fill("too slow")
    undo.press("Enter")
    expect(value).to_have_text("0.003")
    done = re.compile(r"^0\.002 → 0\.003.* · at step \d+ · Operator Lab$")
    expect(row.get_by_test_id("knob-note")).to_have_text(done)
    expect(undo).to_have_attribute("title", "Undo: set 0.002 again")
    expect(undo).to_be_focused()
    expect(undo_of(knob(owner))).to_have_attribute("title", "Undo: set 0.002 again")
    *_, command = changes(lab)
    assert len(changes(lab)) == sent + 1
    assert (command["state"], command["expected_value"], command["reason"]) == ("applied", "0.002", "too slow")
    # An unsent value is discarded.
    row.get_by_test_id("knob-field").fill("0.5")
    undo.click()
    expect(value).to_have_text("0.002")
    operator.reload()
    expect(value).to_have_text("0.002")
    expect(undo).to_have_attribute("title", "Undo: set 0.003 again")
    undo.click()
    expect(value).to_have_text("0.003")
    assert [command["new_value"] for command in changes(lab)[sent:]] == ["0.003", "0.002", "0.003"]
    owner.context.close()


def test_undo_brings_a_text_back(operator: Page) -> None:
    row = knob(operator, "motto")
    row.get_by_test_id("knob-field").fill("festina lente")
    row.get_by_test_id("knob-field").press("Enter")
    expect(row.get_by_test_id("knob-value")).to_have_text("festina lente")
    undo_of(row).click()
    expect(row.get_by_test_id("knob-value")).to_have_text("slow and steady")
    expect(row.get_by_test_id("knob-field")).to_have_value("slow and steady")


def test_undo_says_why_it_is_unavailable(operator: Page, lab: Stack, chromium: Browser) -> None:
    viewer = open_run(chromium, lab, "viewer", LAPTOP)
    expect(knob(viewer).get_by_test_id("knob-value")).to_have_text("0.003")
    expect(viewer.get_by_test_id("knob-undo")).to_have_count(0)
    viewer.context.close()
    row = knob(operator)
    undo = undo_of(row)
    lab.manage("command", "1", "save_checkpoint", "name=before", "--wait", "60")
    row.get_by_test_id("knob-field").fill("0.004")
    row.get_by_test_id("knob-field").press("Enter")
    expect(undo).to_have_attribute("title", "Undo: set 0.003 again")
    expect(undo).to_have_attribute("aria-disabled", "false")
    lab.manage("command", "1", "roll_back", "checkpoint=before", "--wait", "60")
    expect(row.get_by_test_id("knob-value")).to_have_text("0.003")
    expect(undo).to_have_attribute("aria-disabled", "true")
    sent = len(changes(lab))
    undo.press("Enter")
    expect(operator.locator("#toasts")).to_contain_text("Something else has set the value since")
    lab.manage("command", "1", "stop", "--wait", "60")
    expect(operator.get_by_test_id("state")).to_have_attribute("data-state", "stopped")
    expect(undo).to_have_attribute("title", "Undo: set 0.003 again: The run has ended.")
    undo.press("Enter")
    expect(operator.locator("#toasts")).to_contain_text("The run has ended.")
    assert len(changes(lab)) == sent
