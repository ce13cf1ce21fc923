"""The growth of a page's memory over the updates of a day, which its own scripts receive as fast as they take them."""

from __future__ import annotations

from playwright.sync_api import Page

from bench.portal.feeding import UPDATES_PER_S
from tests.support.stack import wait_for

DAY = 24 * 3600 * UPDATES_PER_S
PART = 2000

# Before the scripts of the page: keep its socket, and the last update that came through it.
KEEP_SOCKET = """(() => {
    const Real = window.WebSocket;
    window.WebSocket = class extends Real {
        constructor(...given) {
            super(...given);
            window.played = { socket: this, template: null, seq: 0, isPlaying: false };
            this.addEventListener("message", ({ data }) => {
                for (const frame of [JSON.parse(data)].flat())
                    if (frame.kind === "metrics") Object.assign(window.played, { template: frame, seq: frame.seq });
            });
        }
        // The portal has not sent what is played: it would refuse to have it acknowledged.
        send(data) {
            if (!window.played.isPlaying || JSON.parse(data).kind !== "ack") super.send(data);
        }
    };
})()"""

# Plays `count` updates, each with one step of every series, and yields to the page's timers and frames in between.
PLAY = """async (count) => {
    const { played } = window;
    const { socket, template } = played;
    played.isPlaying = true;
    const names = Object.keys(template.blocks[0].values);
    const step = () => { played.step = (played.step ?? template.blocks[0].steps.at(-1)) + 1; return played.step; };
    for (let update = 0; update < count; update += 1) {
        const at = step();
        const value = (place) => Math.exp(-at / 3e5) + ((at * (place + 7)) % 100) / 1e3;
        const values = Object.fromEntries(names.map((name, place) => [name, [value(place)]]));
        const times = [template.blocks[0].times.at(-1) + at / 10];
        const block = { ...template.blocks[0], steps: [at], times, values };
        played.seq += 1;
        const frame = { ...template, seq: played.seq, step: at, blocks: [block] };
        socket.dispatchEvent(new MessageEvent("message", { data: JSON.stringify(frame) }));
        if (update % 50 === 49) await new Promise((resolve) => setTimeout(resolve));
    }
    return played.step;
}"""

SHOWS_STEP = """(step) =>
    document.querySelector("[data-testid=step]").textContent.replace(/[^0-9/]/g, "").startsWith(step)"""


def used_mb(page: Page) -> float:
    """Return the megabytes of the page's heap that are in use after a garbage collection."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("HeapProfiler.collectGarbage")
    used: float = devtools.send("Runtime.getHeapUsage")["usedSize"]
    devtools.detach()
    return used / 2**20


def play_day(page: Page, updates: int = DAY) -> float:
    """Play the updates of a day; return the growth of the heap in megabytes.

    Raises `TimeoutError` if the page did not take them.
    """
    before = used_mb(page)
    step = 0
    for _ in range(0, updates, PART):
        step = page.evaluate(PLAY, PART)
    wait_for(lambda: page.evaluate(SHOWS_STEP, str(step)), f"the page to show step {step}", timeout_s=60)
    return used_mb(page) - before
