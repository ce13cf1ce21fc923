"""The form of a new run, filled in by a person."""

from __future__ import annotations

import json

from playwright.sync_api import Browser, expect

from tests.support.browser import log_in
from tests.support.stack import Stack, rows

RECIPE = "switches"
PARAMETERS = [
    {"name": "loud", "kind": "bool", "default": False, "help": ""},
    {"name": "fast", "kind": "bool", "default": True, "help": ""},
]
PUBLISH = f"""
from runs.models import Recipe
Recipe.objects.create(spec={RECIPE!r}, title="Switches", parameters={PARAMETERS!r})
"""


def test_a_checkbox_is_what_the_person_made_of_it(chromium: Browser, stack: Stack) -> None:
    stack.manage("shell", "-v", "0", "-c", PUBLISH)
    page = chromium.new_page()
    log_in(page, stack.address, "operator", "operator")
    page.goto(f"{stack.address}/runs/new/?recipe={RECIPE}")
    loud, fast = page.locator("[name=p-loud]"), page.locator("[name=p-fast]")
    expect(loud).not_to_be_checked()
    expect(fast).to_be_checked()
    loud.check()
    fast.uncheck()
    page.get_by_test_id("create").click()
    page.wait_for_url(lambda url: "/new/" not in url)
    number = page.url.rstrip("/").rsplit("/", 1)[1]
    page.close()
    (run,) = rows(stack, "SELECT parameters FROM runs_run WHERE id = ?", int(number))
    assert json.loads(run["parameters"]) == {"loud": True, "fast": False}
    rows(stack, "UPDATE runs_run SET recipe_id = NULL WHERE id = ? RETURNING id", int(number))
    rows(stack, "DELETE FROM runs_recipe WHERE spec = ? RETURNING id", RECIPE)
