"""A headless Firefox, driven by Mozilla's own client over its Marionette protocol."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import free_port, wait_for

STARTUP_S = 120
WIDTH, HEIGHT = 1280, 900


class Firefox:
    """One window. Selectors are CSS."""

    def __init__(self, marionette: Any) -> None:
        self._marionette = marionette

    def open(self, address: str) -> None:
        self._marionette.navigate(address)

    @property
    def address(self) -> str:
        return str(self._marionette.get_url())

    def read(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        return self._marionette.execute_script(f"return ({expression});", new_sandbox=False)

    def wait(self, expression: str) -> None:
        """Wait until an expression is true. Raises `TimeoutError`."""
        wait_for(lambda: self.read(expression), expression, timeout_s=60)

    def text(self, selector: str) -> str:
        return str(self.read(f"document.querySelector({selector!r})?.textContent.trim() ?? ''"))

    def click(self, selector: str) -> None:
        self._element(selector).click()

    def type(self, selector: str, text: str) -> None:
        self._element(selector).send_keys(text)

    def press(self, key: str) -> None:
        self._element("body").send_keys(key)

    def drag(self, selector: str, shares: tuple[float, float], marked: str) -> None:
        """Drag with the mouse from one share of an element's width to another, at half its height.

        The button is released when `marked`, the element that marks the range, has a width: a page draws the range
        with its next frame, which takes long on a busy machine."""
        from marionette_driver.marionette import ActionSequence

        box = self.read(f"document.querySelector({selector!r}).getBoundingClientRect().toJSON()")
        places = [int(box["x"] + share * box["width"]) for share in shares]
        y = int(box["y"] + box["height"] / 2)
        mouse = ActionSequence(self._marionette, "pointer", "mouse", {"pointerType": "mouse"})
        mouse.pointer_move(places[0], y).pointer_down().pointer_move(places[1], y, duration=100).perform()
        self.wait(f"document.querySelector({marked!r}).getBoundingClientRect().width > 0")
        ActionSequence(self._marionette, "pointer", "mouse", {"pointerType": "mouse"}).pointer_up().perform()

    def save_picture(self, path: Path) -> None:
        path.write_bytes(self._marionette.screenshot(format="binary", full=False))

    def complaints(self, address: str) -> list[str]:
        """Return the errors and breaches of the content policy so far that name a file of the portal."""
        with self._marionette.using_context("chrome"):
            found: list[str] = self._marionette.execute_script("""
                return Services.console.getMessageArray().flatMap((message) => {
                    const isError = message instanceof Ci.nsIScriptError
                        && !(message.flags & Ci.nsIScriptError.warningFlag);
                    return isError ? [`${message.sourceName} ${message.errorMessage}`] : [];
                });""")
        return [line for line in found if address in line]

    def _element(self, selector: str) -> Any:
        self.wait(f"document.querySelector({selector!r})?.getClientRects().length > 0")
        return self._marionette.find_element("css selector", selector)


@contextmanager
def started_firefox() -> Iterator[Firefox]:
    """Start Firefox with an empty profile; skip the test if Firefox or the client is not installed."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        pytest.skip("Firefox is not installed: apt-get install firefox-esr")
    marionette_module = pytest.importorskip("marionette_driver.marionette")
    marionette = marionette_module.Marionette(
        bin=program, headless=True, host="127.0.0.1", port=free_port(), startup_timeout=STARTUP_S, gecko_log="-",
        prefs={"intl.accept_languages": "en-GB", "intl.locale.requested": "en-US"},
    )  # fmt: skip
    try:
        marionette.start_session()
        marionette.set_window_rect(width=WIDTH, height=HEIGHT)
        yield Firefox(marionette)
    finally:
        marionette.quit()
        marionette.cleanup()
