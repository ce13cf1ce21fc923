"""The output of `manage.py train`: a progress bar on a terminal, plain lines elsewhere, nothing with `--quiet`."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TextIO

from tqdm import tqdm

from runs.protocol.series_names import LOSS_NAMES
from steersman.agent.host_side.surroundings import Display as Display
from steersman.agent.reporting.report_sequence import StoredProgress
from steersman.messages.ended import Concluded

LINE_INTERVAL_S = 10.0
# A larger loss has more digits than fit into the line.
LARGEST_PLAIN_LOSS = 1e9


class QuietDisplay:
    """Shows only errors."""

    def show(self, progress: StoredProgress) -> None: ...

    def console(self, lines: list[str]) -> None: ...

    def unfinished(self, lines: list[str]) -> None: ...

    def say(self, text: str) -> None: ...

    def end(self, progress: StoredProgress, end: Concluded) -> None:
        if end.reason:
            _write(sys.stderr, end.reason)

    def close(self) -> None: ...


class LineDisplay:
    """Plain lines: one per epoch, and one every ten seconds."""

    def __init__(self, run_id: int, again: str) -> None:
        self._run_id = run_id
        self._again = again
        self._epoch = 0
        self._shown_at = self._unfinished_at = time.monotonic()

    def show(self, progress: StoredProgress) -> None:
        now = time.monotonic()
        if progress.epoch == self._epoch and now - self._shown_at < LINE_INTERVAL_S:
            return
        self._epoch, self._shown_at = progress.epoch, now
        if progress.step:
            _write(sys.stdout, f"run {self._run_id}  {summary(progress)}")

    def console(self, lines: list[str]) -> None:
        for line in lines:
            _write(sys.stdout, line)

    def unfinished(self, lines: list[str]) -> None:
        # In a file, a line for each update of a progress bar would hide all others.
        now = time.monotonic()
        if lines and now - self._unfinished_at >= LINE_INTERVAL_S:
            self._unfinished_at = now
            self.console(lines)

    def say(self, text: str) -> None:
        _write(sys.stdout, text)

    def end(self, progress: StoredProgress, end: Concluded) -> None:
        self.say(ending(self._run_id, progress, end, self._again))

    def close(self) -> None: ...


class BarDisplay:
    """A progress bar with epoch, step, loss, rate and remaining time."""

    def __init__(self, run_id: int, again: str) -> None:
        self._run_id = run_id
        self._again = again
        self._bar: tqdm[None] | None = None
        self._unfinished: tqdm[None] | None = None

    def show(self, progress: StoredProgress) -> None:
        if progress.step:
            with contextlib.suppress(OSError):
                self._draw(progress)

    def _draw(self, progress: StoredProgress) -> None:
        if self._bar is None:
            self._bar = tqdm(
                initial=progress.step,
                total=progress.total_steps,
                unit="step",
                desc=f"run {self._run_id}",
                dynamic_ncols=True,
            )
        self._bar.total = progress.total_steps
        self._bar.set_postfix_str(summary(progress, steps=False), refresh=False)
        self._bar.update(progress.step - self._bar.n)

    def console(self, lines: list[str]) -> None:
        for line in lines:
            self.say(line)

    def unfinished(self, lines: list[str]) -> None:
        """Show the script's own progress bar, or any other incomplete line, below ours."""
        with contextlib.suppress(OSError):
            if self._unfinished is None and lines:
                self._unfinished = tqdm(bar_format="{desc}", position=1, leave=False, dynamic_ncols=True)
            if self._unfinished is not None:
                self._unfinished.set_description_str(_as_shown(sys.stderr, " ".join(lines)))

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            tqdm.write(_as_shown(sys.stdout, text))

    def end(self, progress: StoredProgress, end: Concluded) -> None:
        self.close()
        _write(sys.stdout, ending(self._run_id, progress, end, self._again))

    def close(self) -> None:
        for bar in (self._unfinished, self._bar):
            if bar is not None:
                with contextlib.suppress(OSError):
                    bar.close()
        self._unfinished = self._bar = None


def display_for(run_id: int, again: str, quiet: bool) -> Display:
    """Return the display for the kind of standard error, where tqdm draws."""
    if quiet:
        return QuietDisplay()
    return BarDisplay(run_id, again) if sys.stderr.isatty() else LineDisplay(run_id, again)


def summary(progress: StoredProgress, steps: bool = True) -> str:
    """Return epoch, step and the known losses as one short line."""
    parts = []
    if progress.total_epochs:
        parts.append(f"epoch {min(progress.epoch + 1, progress.total_epochs)}/{progress.total_epochs}")
    if steps:
        parts.append(f"step {progress.step}" + (f"/{progress.total_steps}" if progress.total_steps else ""))
    loss = next((progress.latest[name] for name in LOSS_NAMES if name in progress.latest), None)
    if loss is not None:
        parts.append(f"loss {loss:.4f}" if abs(loss) < LARGEST_PLAIN_LOSS else f"loss {loss:.4g}")
    accuracy = progress.latest.get("validation_accuracy")
    if accuracy is not None:
        parts.append(f"validation accuracy {accuracy:.4f}")
    return "  ".join(parts)


def ending(run_id: int, progress: StoredProgress, end: Concluded, again: str) -> str:
    """Return how the attempt ended, and `again`, the command that resumes the run."""
    text = f"run {run_id} {end.state}: {summary(progress)}"
    if end.reason:
        text += f"\n{end.reason}"
    if end.state != "finished":
        text += f"\nGo on with: {again}"
    return text


def _write(stream: TextIO, text: str) -> None:
    # The terminal may be gone, while the training continues.
    with contextlib.suppress(OSError):
        print(_as_shown(stream, text), file=stream, flush=True)


def _as_shown(stream: TextIO, text: str) -> str:
    """Return `text` with a question mark for each character that the terminal's encoding does not have."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding, "replace")
