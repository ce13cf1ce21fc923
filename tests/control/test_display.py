"""The output of `train` on a terminal that has closed, or cannot encode some characters."""

from __future__ import annotations

import io
import sys

import pytest

from steersman.agent.reporting.report_sequence import StoredProgress
from steersman.messages.ended import Concluded
from trainer.control.display import BarDisplay, LineDisplay, QuietDisplay

TEXT = "50%|█████ 🚣 日本"
AGAIN = "python manage.py train --run-id 1"


DISPLAYS = pytest.mark.parametrize(
    "display", [BarDisplay(1, AGAIN), LineDisplay(1, AGAIN), QuietDisplay()], ids=lambda each: type(each).__name__
)


class Gone(io.TextIOWrapper):
    def write(self, text: str) -> int:
        raise OSError("the terminal is gone")


@pytest.mark.parametrize(
    "display", [BarDisplay(1, AGAIN), LineDisplay(1, AGAIN), QuietDisplay()], ids=lambda each: type(each).__name__
)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk", "utf-8"])
def test_letters_that_a_terminal_does_not_have_are_question_marks(monkeypatch, display, encoding):
    shown = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(shown, encoding=encoding, errors="strict", write_through=True))
    display.console([TEXT])
    display.unfinished([TEXT])
    display.say(TEXT)
    display.end(StoredProgress(step=1, latest={"loss": 1.7e308}), Concluded(state="failed", reason=TEXT))
    display.close()
    text = shown.getvalue().decode(encoding)
    assert "50%|" in text and ("日本" in text) == (encoding in ("gbk", "utf-8"))
    assert len(max(text.splitlines(), key=len)) < 200


@pytest.mark.parametrize(
    "display", [BarDisplay(1, AGAIN), LineDisplay(1, AGAIN), QuietDisplay()], ids=lambda each: type(each).__name__
)
def test_a_terminal_that_is_gone_ends_nothing(monkeypatch, display):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, Gone(io.BytesIO(), encoding="utf-8"))
    display.console([TEXT])
    display.unfinished([TEXT])
    display.show(StoredProgress(step=1))
    display.say(TEXT)
    display.end(StoredProgress(step=1), Concluded(state="failed", reason=TEXT))
