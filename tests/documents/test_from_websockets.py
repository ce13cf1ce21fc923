"""The scripts of docs/from_websockets.md, before and after the change, work as shown."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from websockets.sync.server import ServerConnection, serve

from tests.documents.reading import saved_file, saved_files, text_of
from tests.support.stack import START_TIMEOUT_S, Stack, create_run, run_row, wait_for

TEXT = text_of("docs/from_websockets.md")


def test_the_script_of_before_sends_its_points(tmp_path: Path):
    script = tmp_path / "websocket_training.py"
    script.write_text(saved_file(TEXT, script.name))
    received: list[dict[str, Any]] = []

    def keep(socket: ServerConnection) -> None:
        received.extend(json.loads(message) for message in socket)

    with serve(keep, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
        subprocess.run([sys.executable, str(script), address], check=True, timeout=START_TIMEOUT_S)
        wait_for(lambda: len(received) >= 800, "the points on their way")
        server.shutdown()
    # The script loses what is still in its queue of 100 at the end, as the page says.
    assert [point["step"] for point in received[:800]] == list(range(1, 801))


def test_the_script_of_after_needs_three_lines_and_is_recorded_to_its_last_step(offline_stack: Stack, tmp_path: Path):
    assert saved_files(TEXT) == ["websocket_training.py", "my_training.py"]
    code = saved_file(TEXT, "my_training.py")
    assert len(re.findall(r"# [123]$", code, re.MULTILINE)) == 3
    (tmp_path / "my_training.py").write_text(code)
    run_id = create_run(offline_stack, "my training")
    offline_stack.manage("train", "--run-id", str(run_id), "--", "my_training.py", cwd=tmp_path)
    run = run_row(offline_stack, run_id)
    assert (run["state"], run["step"]) == ("finished", 1000)


def test_both_scripts_train_alike():
    before, after = (saved_file(TEXT, name).splitlines() for name in saved_files(TEXT))
    training = [line for line in after if "steersman" not in line and "run." not in line and not line.startswith("#")]
    assert set(training) <= set(before)


def test_its_figures_are_measured_ones():
    figures = re.findall(r"\d[\d.]* µs", TEXT)
    assert figures and all(figure in text_of("docs/figures.md") for figure in figures)
