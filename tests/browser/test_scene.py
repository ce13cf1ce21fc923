"""A day in a lab of three, in English and in Chinese, with screenshots.

The owner invites, the operator starts a run from the form, viewer and guest watch, the operator stops it from a phone,
and the admin reviews.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.support.browser import Complaints, log_in
from tests.support.stack import ROOT, Stack, rows, run_row, seed_stack, wait_for

PASSWORD = "a-long-enough-passphrase-7"


class Serving:
    """`manage.py serve` of a lab with an owner and an admin: portal, embedded server and watch."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        with (stack.folder / "serve.log").open("wb") as log:
            self.process = subprocess.Popen(
                stack.command("serve"), cwd=ROOT, env=stack.environment, stdout=log, stderr=log, start_new_session=True
            )
        stack.wait_for_web()

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture(scope="module")
def lab() -> Iterator[Stack]:
    with Stack() as stack:
        seed_stack(stack)
        stack.manage("recipes", "--publish")
        serving = Serving(stack)
        yield stack
        serving.end()


class People:
    """Browsers of several people at once."""

    def __init__(self, chromium: Browser, language: str) -> None:
        self._chromium = chromium
        self._language = language
        self._contexts: list[BrowserContext] = []
        self.complaints: list[Complaints] = []

    def browser(self, width: int = 1360, height: int = 900) -> Page:
        context = self._chromium.new_context(
            viewport={"width": width, "height": height},
            locale=self._language,
            extra_http_headers={"Accept-Language": self._language},
        )
        self._contexts.append(context)
        page = context.new_page()
        self.complaints.append(Complaints(page))
        return page

    def leave(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture(params=["en-GB", "zh-CN"])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def people(chromium: Browser, language: str) -> Iterator[People]:
    together = People(chromium, language)
    yield together
    together.leave()


def invite(owner: Page, address: str, role: str) -> str:
    owner.goto(f"{address}/projects/lab/members/")
    owner.select_option("select[name=role]#id_role", role)
    owner.get_by_test_id("invite").click()
    return owner.locator("#shown-once").input_value()


def join(page: Page, link: str, name: str) -> None:
    page.goto(link)
    page.fill("input[name=username]", name)
    page.fill("input[name=full_name]", name)
    for field in page.locator("input[type=password]").all():
        field.fill(PASSWORD)
    page.get_by_test_id("join").click()
    page.wait_for_url(lambda url: "/invite/" not in url)


def points_of(page: Page) -> int:
    return int(page.locator('[data-testid=chart][data-series~="train/loss"]').first.get_attribute("data-points") or 0)


def test_a_day_in_the_lab(lab: Stack, people: People, language: str, screenshots: Path) -> None:
    address, suffix = lab.address, language[:2]
    ada, ben = f"ada-{suffix}", f"ben-{suffix}"

    owner = people.browser()
    log_in(owner, address, "owner", "owner")
    operator = people.browser()
    join(operator, invite(owner, address, "operator"), ada)
    viewer = people.browser()
    join(viewer, invite(owner, address, "viewer"), ben)
    owner.goto(f"{address}/projects/lab/members/")
    expect(owner.get_by_test_id("members")).to_contain_text(ada)
    owner.screenshot(path=screenshots / f"members-{suffix}.png")

    operator.goto(f"{address}/runs/new/?recipe=digits")
    operator.fill("input[name=name]", "Digits for the lab")
    operator.fill("input[name$=epochs]", "100000")
    operator.screenshot(path=screenshots / f"new-run-{suffix}.png", full_page=True)
    operator.get_by_test_id("queue").click()
    operator.wait_for_selector("[data-testid=run]")
    expect(operator.get_by_test_id("state")).to_have_attribute("data-state", "running")
    run_id = int(operator.url.rstrip("/").rsplit("/", 1)[1])

    viewer.goto(f"{address}/runs/{run_id}/")
    expect(viewer.get_by_test_id("run")).to_have_attribute("data-link", "live")
    expect(viewer.get_by_test_id("stop")).to_be_hidden()

    operator.get_by_test_id("share").click()
    operator.get_by_test_id("make-link").click()
    link = operator.locator("#shown-once").input_value()
    guest = people.browser()
    guest.goto(link)
    expect(guest.get_by_test_id("run")).to_have_attribute("data-link", "live")
    expect(guest.get_by_test_id("stop")).to_be_hidden()
    for page in (viewer, guest):
        seen = wait_for(lambda page=page: points_of(page), "the loss curve")  # type: ignore[misc]
        wait_for(lambda page=page, seen=seen: points_of(page) > seen, "the curve to grow")  # type: ignore[misc]
    guest.screenshot(path=screenshots / f"share-{suffix}.png")
    assert ada not in guest.locator("body").inner_text()

    phone = people.browser(375, 740)
    log_in(phone, address, ada, PASSWORD)
    phone.goto(f"{address}/runs/{run_id}/")
    phone.get_by_test_id("stop").click()
    phone.screenshot(path=screenshots / f"phone-stop-{suffix}.png")
    phone.get_by_test_id("stop-confirm").click()
    for page in (phone, viewer, guest):
        expect(page.get_by_test_id("state")).to_have_attribute("data-state", "stopped")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 375
    phone.screenshot(path=screenshots / f"phone-stopped-{suffix}.png")
    (command,) = rows(lab, "SELECT * FROM runs_command WHERE run_id = ?", run_id)
    assert (command["author_name"], command["state"]) == (ada, "applied")

    admin = people.browser()
    log_in(admin, address, "admin", "admin")
    admin.goto(f"{address}/admin/runs/run/{run_id}/change/")
    expect(admin.locator("body")).to_contain_text(ada)
    admin.fill("textarea[name=review_note]", "Learns well; longer next time.")
    admin.screenshot(path=screenshots / f"admin-{suffix}.png", full_page=True)
    admin.locator("[name=_save]").first.click()
    admin.wait_for_url(lambda url: "/change/" not in url)
    run = run_row(lab, run_id)
    assert run["state"] == "stopped" and run["review_note"] and run["reviewed_at"]
    # Resources that a page requests without permission do not count; everything else is an error.
    assert not [line for each in people.complaints for line in each.lines]
