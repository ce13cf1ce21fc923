"""Logging in, the list, curves with a zoom, a live point, a command and the comparison, in Firefox."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.conftest import Places
from tests.browser.firefox.driver import Firefox, started_firefox
from tests.support.stack import Stack, wait_for

LOSS = '[data-testid=chart][data-series~="train/loss"]'
POINTS = f"Number(document.querySelector('{LOSS}')?.dataset.points ?? 0)"
IS_LIVE = "document.querySelector('#run')?.dataset.link === 'live'"
HISTORIES = """performance.getEntriesByType("resource").filter(({ name }) => name.includes("/history/")).length"""


@pytest.fixture(scope="module")
def firefox(stack: Stack) -> Iterator[Firefox]:
    with started_firefox() as firefox:
        firefox.open(f"{stack.address}/login/")
        firefox.type("input[name=username]", "operator")
        firefox.type("input[name=password]", "operator")
        firefox.click("button[type=submit]")
        firefox.wait("!location.pathname.includes('/login/')")
        yield firefox
        assert not firefox.complaints(stack.address)


def log_loss(stack: Stack, run: int, step: int) -> None:
    stack.manage("shell", "-v", "0", "-c", f"""
from runs.recording import feed
from runs.series import storage
from tests.support.stored_points import metrics
event = metrics({{"train/loss": [0.5]}}, [{step}])
storage.update_latest({run}, [event])
feed.append({run}, event)
""")  # fmt: skip


def create_live_run(stack: Stack) -> int:
    made = stack.manage("shell", "-v", "0", "-c", """
from runs.models import Project, Run
print(Run.objects.create(project=Project.objects.get(slug="pages"), name="foxy", state="running", attempt=1).pk)
""")  # fmt: skip
    return int(made.stdout.split()[-1])


def test_the_list_is_searched_and_its_curves_are_drawn(
    firefox: Firefox, stack: Stack, places: Places, screenshots: Path
) -> None:
    firefox.open(f"{stack.address}/?project=pages&q=γεμάτο")
    rows = "[...document.querySelectorAll('tr[data-run]')].map((row) => Number(row.dataset.run))"
    assert firefox.read(rows) == [places["full"]]
    firefox.save_picture(screenshots / "firefox-list.png")


def test_curves_are_drawn_and_a_drag_zooms(firefox: Firefox, stack: Stack, places: Places, screenshots: Path) -> None:
    firefox.open(f"{stack.address}/runs/{places['ended']}/")
    firefox.wait(IS_LIVE)
    firefox.wait(f"{POINTS} >= 3000")
    # The answer that was requested together with the scripts is used.
    assert firefox.read(HISTORIES) == 1
    firefox.read(f"document.querySelector('{LOSS}').scrollIntoView({{ block: 'center', behavior: 'instant' }})")
    firefox.drag(f"{LOSS} .u-over", (0.4, 0.6), f"{LOSS} .u-select")
    firefox.wait("!document.querySelector('.zoom-reset').hidden")
    firefox.save_picture(screenshots / "firefox-run.png")
    firefox.press("z")
    firefox.wait("document.querySelector('.zoom-reset').hidden")


def test_a_point_arrives_and_a_command_is_recorded(firefox: Firefox, stack: Stack, places: Places) -> None:
    run = create_live_run(stack)
    log_loss(stack, run, 1)
    firefox.open(f"{stack.address}/runs/{run}/")
    firefox.wait(IS_LIVE)
    firefox.wait(f"{POINTS} === 1")
    log_loss(stack, run, 2)
    firefox.wait(f"{POINTS} === 2")
    firefox.click("[data-testid=pause]")
    sent = f"from runs.models import Run; print(Run.objects.get(pk={run}).commands.filter(kind='pause').count())"
    wait_for(
        lambda: stack.manage("shell", "-v", "0", "-c", sent).stdout.split()[-1] == "1", "the command", timeout_s=60
    )


def test_two_runs_are_compared(firefox: Firefox, stack: Stack, places: Places, screenshots: Path) -> None:
    firefox.open(f"{stack.address}/runs/compare/?run={places['live']}&run={places['ended']}")
    firefox.wait("document.querySelectorAll('[data-testid=chart] canvas').length > 0")
    firefox.save_picture(screenshots / "firefox-compare.png")
