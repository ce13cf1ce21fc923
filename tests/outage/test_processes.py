"""The death of a supervisor or web process between two periodic checks is noticed at once, not at the next check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from monitor_site.serving import service as services
from monitor_site.serving.child_processes import Child
from monitor_site.serving.service import Service
from monitor_site.serving.status_line import StatusLine
from runs.models import Attempt, Project, Run, RunState
from steersman.agent.folders import attempt_folder, host_name, run_folder
from steersman.files.private import make_private
from tests.support.stack import ROOT
from trainer.scheduler import watch as watches
from trainer.scheduler.watch import Watch

# The next periodic check never comes.
NEVER_S = 3600.0
HOLDER = """
import sys
from pathlib import Path
from steersman.files.locks import try_lock
lock = try_lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.django_db
def test_a_watch_looks_as_soon_as_a_supervisor_lets_go_of_its_run(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.STEERSMAN_DATA = make_private(tmp_path / "data")
    monkeypatch.setattr(watches, "WATCH_INTERVAL_S", NEVER_S)
    run = Run.objects.create(project=Project.objects.create(name="Lab", slug="lab"), state=RunState.RUNNING, attempt=1)
    Attempt.objects.create(run=run, number=1, host=host_name(), boot_id="", supervisor_pid=1, command_line=[])
    make_private(attempt_folder(settings.STEERSMAN_DATA, run.pk, 1))
    lock = make_private(run_folder(settings.STEERSMAN_DATA, run.pk)) / "supervisor.lock"
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None and supervisor.stdout.readline() == b"held\n"
        watch = Watch()
        watch.tick()
        supervisor.kill()
        watch.pause()
    assert supervisor.returncode is not None


def test_a_portal_that_was_killed_is_brought_back_between_two_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BroughtBack(Exception):
        pass

    class Told(Service):
        def tell(self, sentence: str | None) -> None:
            if sentence:
                raise BroughtBack(sentence)

    monkeypatch.setattr(services, "POLL_INTERVAL_S", NEVER_S)
    service = Told(StatusLine(sys.stdout))
    service.portal = Child("portal", [sys.executable, "-c", "input()"], tmp_path / "portal.log", ROOT, {})
    service.watch = Child("watch", [sys.executable, "-c", "input()"], tmp_path / "watch.log", ROOT, {})
    service.portal.start()
    service.portal.kill()
    with pytest.raises(BroughtBack, match="portal was ended by SIGKILL"):
        service.pause()
