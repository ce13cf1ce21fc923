"""A series has one colour on the page of a run."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from tests.browser.conftest import Places
from tests.support.browser import operators_page
from tests.support.stack import Stack, wait_for

SEED = """
from runs.models import Project, Run
from runs.recording import feed
from runs.series import storage
from tests.support.stored_points import metrics
run = Run.objects.create(project=Project.objects.get(slug="pages"), name="colours", state="finished", attempt=1)
values = [1 / step for step in range(1, 101)]
event = metrics({name: values for name in ("train/loss", "optimizer/rate", "val/loss")}, range(1, 101))
feed.append(run.pk, event)
storage.update_latest(run.pk, [event])
print(run.pk)
"""
# By the series of each card that has a curve: the colour of the curve, as #rrggbb.
CARD_COLOURS = """cards => Object.fromEntries(cards.flatMap(card => {
    const canvas = card.querySelector(".stat-spark");
    const name = card.querySelector("[data-testid=pin-card]")?.title.split(" ").at(-1);
    if (!name || !canvas.width) return [];
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    for (let at = 0; at < data.length; at += 4) {
        if (data[at + 3] < 255) continue;
        return [[name, "#" + [0, 1, 2].map(part => data[at + part].toString(16).padStart(2, "0")).join("")]];
    }
    return [];
}))"""


def test_a_card_has_the_colour_of_the_chart_of_its_series(stack: Stack, chromium: Browser, places: Places) -> None:
    with operators_page(chromium, stack.address) as page:
        run = stack.manage("shell", "-v", "0", "-c", SEED).stdout.strip()
        page.goto(f"{stack.address}/runs/{run}/")
        found: dict[str, str] = {}

        def has_curves() -> bool:
            found.update(page.locator("#stats .stat").evaluate_all(CARD_COLOURS))
            return len(found) == 3

        wait_for(has_curves, "the curves of three cards")
        assert len(set(found.values())) == 3, found
        for name, colour in found.items():
            chart = page.locator(f'[data-testid=chart][data-key="{name}"]')
            chart.scroll_into_view_if_needed()
            expect(chart.locator(".chart-legend line").first).to_have_attribute("stroke", colour)
