"""The demo from start to end: what `make serve` runs, with accounts and a training, and nothing that outlives it."""

from __future__ import annotations

import time
from uuid import uuid4

from django.conf import settings
from django.db import DatabaseError, OperationalError
from django.db.models import F

from monitor_site.children import adopt_orphans, descendants_with, kill_descendants, reap_orphans
from monitor_site.demo import training
from monitor_site.demo.accounts import prepare_accounts
from monitor_site.publishing import publish_recipes
from monitor_site.service import POLL_S, CannotRun, Service
from monitor_site.status_line import StatusLine
from runs.asking import record
from runs.commands import Request, Stop
from runs.lifecycle import ENDED, LIVE
from runs.models import Attempt, Run, RunState
from trainer.folders import host_name

FIRST_POINT_TIMEOUT_S = 120.0
# The training finishes its step and writes a checkpoint: far more than it needs, far less than a person waits.
TRAINING_END_S = 60.0
SUPERVISOR = "manage.py train --run-id"


class Demo(Service):
    """A service with accounts to look around and a training to watch; nothing of it outlives it."""

    command = "make demo"

    def __init__(self, status: StatusLine, parameters: dict[str, str]) -> None:
        super().__init__(status)
        self.parameters = parameters
        self.run_id = 0
        self._end_told = False

    # Starting

    def prepare(self) -> None:
        # The watch starts trainings as processes of their own: they must not be lost when it is killed.
        adopt_orphans()
        publish_recipes(settings.BASE_DIR, self.data)
        self.logins = prepare_accounts(self.data)

    def start(self) -> None:
        super().start()
        for login in self.logins:
            self.status.say(str(login))
        self.run_id = training.create_run(self.parameters, "owner")
        self._wait_for_points()
        self.status.say(f"run {self.run_id} {self.address}runs/{self.run_id}/")
        self.status.say("Ctrl-C ends everything.")

    def _wait_for_points(self) -> None:
        deadline = time.monotonic() + FIRST_POINT_TIMEOUT_S
        while not training.has_points(self.run_id):
            run = Run.objects.get(pk=self.run_id)
            if run.state == RunState.FAILED:
                raise CannotRun(f"The training failed: {run.reason}")
            if time.monotonic() > deadline:
                raise CannotRun(
                    f"The training is not there after {FIRST_POINT_TIMEOUT_S:.0f} s; the logs of watch and run lie in "
                    f"{self.data / 'logs'}. If something is missing, `make setup` brings it."
                )
            super().look()
            time.sleep(POLL_S)

    # Watching

    def look(self) -> None:
        """As any service, and show the state of the training."""
        super().look()
        try:
            run = Run.objects.get(pk=self.run_id)
            if run.state not in ENDED:
                self._end_told = False
            elif not self._end_told:
                self._end_told = True
                self.status.say(training.describe_end(self.run_id))
            self.status.show(training.describe(run), str(run.state))
        except (OperationalError, Run.DoesNotExist):
            # A status that is missed is shown a second later; a run that was deleted has none.
            return

    # Ending

    def end(self) -> None:
        """End the trainings first, while the portal can still tell their viewers; then everything else."""
        self.status.end()
        if self.watch.pid is not None:
            self._stop_trainings()
        served = self.portal.pid is not None
        super().end()
        kill_descendants()
        if served:
            self.status.say("Everything has ended; the runs are kept.")

    def end_at_once(self) -> None:
        kill_descendants()

    def _stop_trainings(self) -> None:
        """Ask every training to stop and wait for it; the watch goes on meanwhile, and brings back supervisors."""
        asked: set[int] = set()
        deadline = time.monotonic() + TRAINING_END_S
        try:
            while (live := _live_here()) or descendants_with(SUPERVISOR):
                if time.monotonic() > deadline:
                    self.status.say(f"A training did not end within {TRAINING_END_S:.0f} s: ending it at once.")
                    return
                if not asked:
                    self.status.say("Ending: the training saves a checkpoint (Ctrl-C again ends everything at once) …")
                for run_id in live - asked:
                    record(run_id, Request(id=uuid4(), command=Stop()), author_id=None, author_name="make demo")
                asked |= live
                self.keep_watch()
                reap_orphans([self.embedded.pid, self.portal.pid, self.watch.pid])
                time.sleep(POLL_S)
        except DatabaseError as error:
            self.status.say(f"The trainings cannot be asked to stop: {error}")
            return
        if asked:
            self.tell(self._training_end())

    def _training_end(self) -> str | None:
        try:
            return training.describe_end(self.run_id)
        except (OperationalError, Run.DoesNotExist) as error:
            return f"How the training ended is not to be read: {error}"


def _live_here() -> set[int]:
    """Return the runs that train on this host."""
    opened = Attempt.objects.filter(host=host_name(), ended_at=None, number=F("run__attempt"), run__state__in=LIVE)
    return set(opened.values_list("run_id", flat=True))
