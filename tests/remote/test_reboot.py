"""A training host that is rebooted while the portal is away: what its disk has is sent later."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections import Counter
from pathlib import Path

import pytest

from tests.remote.test_run import PATIENCE_S, TRAINING, ended, installation, journal_bytes, opened_run, points
from tests.support.stack import rows, run_row, wait_for

# Runs a command in a mount namespace where the kernel has another identity, as after a reboot.
REBOOTED = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"']


def test_what_a_rebooted_host_has_on_its_disk_is_sent_later(tmp_path: Path) -> None:
    identity = tmp_path / "boot_id"
    identity.write_text(f"{uuid.uuid4()}\n")
    rebooted = [*REBOOTED, str(identity)]
    if os.geteuid() != 0 or subprocess.run([*rebooted, "true"], capture_output=True, check=False).returncode:
        pytest.skip("only root may show a process another identity of the kernel")
    with installation(tmp_path) as (stack, portal, host):
        portal.start()
        host.script(TRAINING)
        command = host.start("run", "--name", "cut off", "--", "python", "train.py")
        run = wait_for(lambda: opened_run(stack, "cut off"), lambda: f"the run\n{host.printed()}", PATIENCE_S)
        wait_for(lambda: run_row(stack, run)["step"] > 50, "points in the database", PATIENCE_S)
        portal.kill()
        stored, size = run_row(stack, run)["step"], journal_bytes(host)
        wait_for(lambda: journal_bytes(host) > size + 20_000, "the journal to grow", PATIENCE_S)
        # A power failure ends all processes of the host at once.
        worker, host_process = host.worker(), host.host_process
        for pid in (command.pid, host_process, worker):
            assert pid is not None
            os.kill(pid, 9)
        command.wait()
        portal.start()
        host.prefix = rebooted
        assert ended(host.start("sync"), host) == 0, host.printed()
        row = run_row(stack, run)
        assert row["state"] == "failed" and row["step"] > stored + 100
        assert Counter(points(stack, run)) == Counter(range(1, row["step"] + 1)), "points were lost or doubled"
        told = rows(stack, "SELECT number, outcome, last_step FROM runs_attempt WHERE run_id = ?", run)
        assert row["reason"].startswith("The host was rebooted or lost power, and the training process left no exit")
        assert told == [{"number": 1, "outcome": "failed", "last_step": row["step"]}]
        # Nothing is left to send.
        assert ended(host.start("sync"), host) == 0
