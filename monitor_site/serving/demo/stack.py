"""The demo from start to end: the same as `make serve`, with accounts and a training that ends with it.

Runs that people start meanwhile outlive the demo, as they outlive `make serve`.
"""

from __future__ import annotations

import contextlib
import time
from uuid import uuid4

from django.conf import settings
from django.db import DatabaseError, OperationalError

from monitor_site.serving.child_processes import adopt_orphans, descendants_of_run, kill_run
from monitor_site.serving.demo import training
from monitor_site.serving.demo.accounts import prepare_accounts
from monitor_site.serving.publishing import publish_recipes
from monitor_site.serving.service import POLL_S, CannotRun, Service
from monitor_site.serving.status_line import StatusLine
from runs.commands.record import record
from runs.models import Run, RunState
from runs.protocol.commands import Request, Stop, Withdraw
from runs.recording.lifecycle import ENDED, LIVE
from runs.recording.queue_places import place_of
from steersman.agent.folders import run_folder

FIRST_POINT_TIMEOUT_S = 120.0
# The training finishes its step and writes a checkpoint: this is far more than it needs.
TRAINING_END_S = 60.0
# A host starts runs with a free slot within a second: a run that still waits by then waits for another training.
QUEUED_S = 15.0
# States in which a run trains, or will train.
GOING = (*LIVE, RunState.QUEUED)


class Demo(Service):
    """A service with accounts to try and a training to watch, which ends with it."""

    command = "make demo"

    def __init__(self, status: StatusLine, parameters: dict[str, str]) -> None:
        super().__init__(status)
        self.parameters = parameters
        self.run_id = 0
        self._end_told = False

    # Starting

    def prepare(self) -> None:
        # The watch starts the training as a separate process, which must not be lost when the watch is killed.
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
        self.status.say("Ctrl-C ends the demo and its training; trainings that you start yourself continue.")

    def _wait_for_points(self) -> None:
        began = time.monotonic()
        deadline = began + FIRST_POINT_TIMEOUT_S
        while not training.has_points(self.run_id):
            run = Run.objects.get(pk=self.run_id)
            if run.state == RunState.QUEUED and not run.given_devices and time.monotonic() - began > QUEUED_S:
                place = place_of(run, Run.objects.all())
                where = place.sentence if place else "queued"
                self.status.say(f"The training waits for another one on this host: {where}.")
                return
            if run.state == RunState.FAILED:
                raise CannotRun(f"The training failed: {run.reason}")
            if time.monotonic() > deadline:
                raise CannotRun(
                    f"The training did not start within {FIRST_POINT_TIMEOUT_S:.0f} s: see the logs of watch and "
                    f"run in {self.data / 'logs'}. If they name a missing package, run `make setup`."
                )
            super().tick()
            time.sleep(POLL_S)

    # Watching

    def tick(self) -> None:
        """Do the same as any service, and show the state of the training."""
        super().tick()
        try:
            run = Run.objects.get(pk=self.run_id)
            if run.state not in ENDED:
                self._end_told = False
            elif not self._end_told:
                self._end_told = True
                self.status.say(training.describe_end(self.run_id))
            self.status.show(training.describe(run), str(run.state))
        except (OperationalError, Run.DoesNotExist):
            # A missed status is shown a second later; a deleted run has none.
            return

    # Ending

    def end(self) -> None:
        """End the training first, while the portal can still notify viewers; then everything else."""
        self.status.end()
        if self.watch.pid is not None:
            self._stop_training()
        served = self.portal.pid is not None
        super().end()
        self._kill_training()
        if served:
            self.status.say("The demo has ended; its runs are kept.")

    def end_at_once(self) -> None:
        # The watch first, because it would restart a supervisor.
        super().end_at_once()
        self._kill_training()

    def _kill_training(self) -> None:
        if self.run_id:
            kill_run(self.run_id, run_folder(self.data, self.run_id))

    def _stop_training(self) -> None:
        """Stop the demo's training and wait for it; meanwhile the watch continues, and restarts supervisors."""
        if not self.run_id:
            return
        asked = False
        deadline = time.monotonic() + TRAINING_END_S
        try:
            while (state := self._state()) in GOING or descendants_of_run(
                self.run_id, run_folder(self.data, self.run_id)
            ):
                if time.monotonic() > deadline:
                    self.status.say(f"The training did not end within {TRAINING_END_S:.0f} s: ending it at once.")
                    return
                if not asked and state in LIVE:
                    self.status.say("Ending: the training saves a checkpoint (Ctrl-C again ends it at once) …")
                    record(self.run_id, Request(id=uuid4(), command=Stop()), author_id=None, author_name="make demo")
                    asked = True
                elif state == RunState.QUEUED:
                    self._leave_queue()
                self.keep_watch()
                self.reap_orphans()
                time.sleep(POLL_S)
        except DatabaseError as error:
            self.status.say(f"The training could not be stopped: {error}")
            return
        if asked:
            self.tell(self._training_end())

    def _state(self) -> str:
        """Return the state of the demo's run, "" if it was deleted."""
        return str(Run.objects.filter(pk=self.run_id).values_list("state", flat=True).first() or "")

    def _leave_queue(self) -> None:
        # The next `make demo` creates another training.
        with contextlib.suppress(Run.DoesNotExist):
            record(self.run_id, Request(id=uuid4(), command=Withdraw()), author_id=None, author_name="make demo")

    def _training_end(self) -> str | None:
        try:
            return training.describe_end(self.run_id)
        except (OperationalError, Run.DoesNotExist) as error:
            return f"The end of the training could not be read: {error}"
