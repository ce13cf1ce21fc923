"""A run as a line of text and as a small card of HTML, which a notebook keeps up to date."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from html import escape
from typing import Any

REFRESH_EVERY_S = 2.0
COLOURS = {"running": "#2563eb", "paused": "#b45309", "finished": "#15803d", "stopped": "#57534e", "failed": "#b91c1c"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is shown of a run: the address of its page, or a note that says where it is recorded."""

    name: str
    state: str
    step: int
    run: int = 0
    page: str = ""
    note: str = ""


def line(facts: Facts) -> str:
    """Return a run in one line of text."""
    where = facts.page or facts.note
    number = f"run {facts.run} " if facts.run else "run "
    return f"steersman: {number}{facts.name!r} {facts.state} at step {facts.step}: {where}"


def html(facts: Facts) -> str:
    """Return a run as a card. Every text is escaped."""
    name = escape(facts.name)
    if facts.page.startswith(("http://", "https://")):
        name = f'<a href="{escape(facts.page)}" target="_blank" rel="noopener">{name}</a>'
        note = f"run {facts.run}"
    else:
        note = escape(facts.note)
    colour = COLOURS.get(facts.state, COLOURS["stopped"])
    return (
        '<div style="display:inline-block;border:1px solid #d6d3d1;border-radius:6px;padding:.5em .8em;margin:.2em 0">'
        f"<strong>{name}</strong> "
        f'<span style="color:{colour};font-weight:600">{escape(facts.state)}</span> at step {facts.step}'
        f'<div style="font-size:85%;opacity:.75">Steersman, {note}</div></div>'
    )


class LiveCard:
    """The card of a run in the output of a notebook's cell."""

    def __init__(self, handle: Any, now: float) -> None:
        self._handle = handle
        self._shown_at = now

    def refresh(self, run: object, now: float) -> None:
        """Show the run as it is now, unless that was done a moment ago; `now` in seconds of `time.monotonic`."""
        if now - self._shown_at < REFRESH_EVERY_S:
            return
        self._shown_at = now
        self.show(run)

    def show(self, run: object) -> None:
        try:
            self._handle.update(run)
        except Exception:  # any exception: of the notebook's front end, which must not end a training
            self._shown_at = float("inf")


def live_card(run: object, now: float) -> LiveCard | None:
    """Show a card in the notebook that this process belongs to; return None if it belongs to none."""
    if not is_notebook():
        return None
    try:
        # The kernel has loaded it.
        handle = sys.modules["IPython.display"].display(run, display_id=True)
    except Exception:  # any exception: of the notebook's front end
        return None
    return LiveCard(handle, now) if handle is not None else None


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None and hasattr(module, "get_ipython") else None
    return getattr(shell, "kernel", None) is not None


def is_interactive() -> bool:
    """Whether a person types the statements of this process one after another: a notebook, or a REPL."""
    return hasattr(sys, "ps1") or is_notebook()
