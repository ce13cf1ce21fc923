"""The loop of the agent: looks after the runs that it took, reports to the portal, and takes what the portal orders."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType

from steersman.agent.folders import WorkerProcess, host_name
from steersman.agent.machine.redactor import Redactor
from steersman.agent.on_request import slurm
from steersman.agent.on_request.beginning import NotBegun, begin_here, store_rest, submit
from steersman.agent.on_request.offered import SBATCH, NotOffered, Offer, started_by
from steersman.agent.on_request.taken import LOCK_FILE, Shelf, Taken, ended_before, has_begun, is_done
from steersman.agent.remote.host_process import APPLICATION
from steersman.agent.remote.opening import NOT_IN_A_HOST_NAME
from steersman.agent.remote.terminal import say
from steersman.exit_codes import EXIT_BAD_INPUT, EXIT_FINISHED, EXIT_HELD
from steersman.files.locks import try_lock
from steersman.messages.agents import AgentOrders, AgentReport, HeldRun, RefusedRun, RequestedRun
from steersman.portal.logins import Login
from steersman.portal.requests import PortalError, Refused, ask, not_a_portal
from steersman.records.typed_json import Malformed, decode

REPORT = "/api/agents/report/"
# A report that changes something, or that may bring more orders, is followed by another one after this.
SOON_S = 0.3
SLURM_INTERVAL_S = 2.0
UNREACHABLE_PAUSE_S = 2.0
REFUSED_PAUSE_S = 15.0
# The pauses before a start that was killed is repeated: they double up to the longest.
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
LONGEST_REASON = 490
WAIT_STEP_S = 0.1


class NotServed(Exception):
    """The agent cannot begin. The text gives the reason and the remedy."""

    def __init__(self, text: str, exit_code: int = EXIT_BAD_INPUT) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class Agent:
    """Serves one offer until `stop`. Its state is in the files of its `Shelf`, so it continues after a restart."""

    def __init__(self, offer: Offer, login: Login, data: Path) -> None:
        self._offer = offer
        self._login = login
        self._shelf = Shelf(data, offer.name)
        self._redactor = Redactor(data, APPLICATION)
        self._taken = {taken.run: taken for taken in self._shelf.taken()}
        self._refused: dict[int, RefusedRun] = {}
        # The processes that this agent started itself, which it has to wait for.
        self._processes: list[subprocess.Popen[bytes]] = []
        # When a start of a run may be repeated, and the pause after that.
        self._again: dict[int, tuple[float, float]] = {}
        self._jobs: dict[str, tuple[str, str]] = {}
        self._jobs_read_at: float | None = None
        # A plain flag: a signal handler calls `stop`, and must not take a lock that this thread may hold.
        self._ending = False
        self._told = ""

    def stop(self) -> None:
        self._ending = True

    def serve(self) -> int:
        """Report and take orders until `stop`; return the exit code. Raises `NotServed`."""
        lock = try_lock(self._shelf.folder / LOCK_FILE)
        if lock is None:
            text = f"name: another process runs the agent {self._offer.name} in this data folder. Stop that one first."
            raise NotServed(text, EXIT_HELD)
        try:
            session = self._shelf.session()
            is_known = False
            while not self._ending:
                self._look_after()
                wait_s, is_known = self._exchange(session, is_known)
                self._wait(wait_s)
            if is_known:
                self._leave(session)
            return EXIT_FINISHED
        finally:
            lock.release()

    def _wait(self, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        while not self._ending and (left_s := until - time.monotonic()) > 0:
            time.sleep(min(left_s, WAIT_STEP_S))

    def _exchange(self, session: str, is_known: bool) -> tuple[float, bool]:
        """Report once and do what is ordered; return the seconds until the next report, and whether one was taken.

        Raises `NotServed` if the portal refuses before it took the first report.
        """
        try:
            orders = self._report(session)
        except PortalError as problem:
            if isinstance(problem, Refused) and not is_known:
                raise NotServed(str(problem)) from problem
            self._tell(f"{problem} Trainings continue.")
            return (REFUSED_PAUSE_S if isinstance(problem, Refused) else UNREACHABLE_PAUSE_S), is_known
        if self._told:
            self._told = ""
            say("The portal answers again.")
        elif not is_known:
            say(f"agent {self._offer.name} is online at {self._login.address}")
        self._refused.clear()
        changed = [self._take(requested) for requested in orders.start]
        for run in orders.drop:
            self._drop(run)
        return (SOON_S if any(changed) else max(SOON_S, orders.report_again_s)), True

    def _report(self, session: str, *, leaves: bool = False) -> AgentOrders:
        """Raises `PortalError`."""
        report = AgentReport(
            name=self._offer.name,
            session=session,
            host=NOT_IN_A_HOST_NAME.sub("-", host_name())[:255] or "host",
            slots=self._offer.slots,
            gpus=len(self._offer.gpus),
            commands=[command.offer() for command in self._offer.commands.values()],
            held=[HeldRun(run=each.run, request=each.request, slots=each.slots, note=self._note(each))
                  for each in self._taken.values()],
            refused=list(self._refused.values()),
            leaves=leaves,
        )  # fmt: skip
        answer = ask(self._login, REPORT, report)
        try:
            return decode(AgentOrders, answer)
        except Malformed as error:
            raise Refused(not_a_portal(self._login.address)) from error

    def _leave(self, session: str) -> None:
        try:
            self._report(session, leaves=True)
        except PortalError as problem:
            self._tell(str(problem))
        if self._taken:
            say(f"the agent ends; trainings that continue: {len(self._taken)}")

    # Orders

    def _take(self, requested: RequestedRun) -> bool:
        """Start a run; return whether the next report has news."""
        held = self._taken.get(requested.run)
        if held is not None:
            if held.request != requested.request and not has_begun(self._shelf.data, held):
                # It was withdrawn and queued again while it waited here.
                self._keep(replace(held, request=requested.request))
                return True
            return False
        command = self._offer.commands.get(requested.command)
        try:
            if command is None:
                raise NotOffered(
                    f'The agent {self._offer.name} has no command "{requested.command}": choose another command, or '
                    f"add [commands.{requested.command}] to the file of the agent."
                )
            started = started_by(command, requested.values)
            gpus = self._free_gpus()[: command.gpus]
            used = sum(each.slots for each in self._taken.values())
            if used + command.slots > self._offer.slots or len(gpus) < command.gpus:
                return False
            taken = Taken(
                run=requested.run,
                request=requested.request,
                key=requested.key,
                name=requested.name,
                command=command.name,
                program=started.program,
                directory=str(command.directory),
                environment=started.environment,
                processes=command.processes,
                slots=command.slots,
                gpus=gpus,
                launcher=command.launcher,
                sbatch_options=command.sbatch_options,
                push=command.push,
                after=ended_before(self._shelf.data, requested.key),
            )
            self._begin(taken)
        except (NotOffered, NotBegun) as error:
            self._refuse(requested.run, requested.request, str(error))
        return True

    def _free_gpus(self) -> list[str]:
        used = {gpu for taken in self._taken.values() for gpu in taken.gpus}
        return [gpu for gpu in self._offer.gpus if gpu not in used]

    def _drop(self, run: int) -> None:
        """Cancel the waiting job of a run that is no longer wanted."""
        taken = self._taken.get(run)
        if taken is not None and taken.job and self._jobs.get(taken.job, ("", ""))[0] == slurm.PENDING:
            try:
                slurm.cancel(self._offer.slurm, taken.job)
            except NotBegun as error:
                self._tell(str(error))

    def _begin(self, taken: Taken) -> None:
        """Raises `NotBegun`."""
        # Recorded before the start: if the agent is killed now, it follows the training after its restart.
        self._keep(taken)
        if taken.launcher == SBATCH:
            self._keep(submit(taken, self._shelf, self._login.address, self._offer.slurm, os.environ))
            self._jobs_read_at = None
        else:
            begun, process = begin_here(taken, self._shelf, self._login.address, os.environ)
            self._processes.append(process)
            self._keep(begun)
        say(f"run {taken.run}: {taken.command} {'is submitted' if taken.launcher == SBATCH else 'starts'}")

    def _keep(self, taken: Taken) -> None:
        self._taken[taken.run] = taken
        self._shelf.keep(taken)

    def _forget(self, run: int) -> None:
        del self._taken[run]
        self._again.pop(run, None)
        self._shelf.forget(run)

    def _refuse(self, run: int, request: int, reason: str) -> None:
        if run in self._taken:
            self._forget(run)
        say(f"run {run} is not started: {reason}")
        shown = self._redactor.text(reason)[:LONGEST_REASON]
        self._refused[run] = RefusedRun(run=run, request=request, reason=shown)

    # Runs that were taken

    def _look_after(self) -> None:
        """Find trainings that have ended, and follow again those that no process follows."""
        self._processes = [process for process in self._processes if process.poll() is None]
        is_slurm_known = self._read_jobs()
        for taken in list(self._taken.values()):
            if taken.job and not is_slurm_known or self._is_followed(taken):
                continue
            if is_done(self._shelf.data, taken):
                say(f"run {taken.run} has ended")
                self._forget(taken.run)
            elif has_begun(self._shelf.data, taken) or not (taken.pid or taken.job):
                self._follow_again(taken)
            else:
                self._refuse(taken.run, taken.request, self._why_not_begun(taken))

    def _is_followed(self, taken: Taken) -> bool:
        if taken.pid and WorkerProcess(taken.pid, taken.began_at).is_alive():
            return True
        return taken.job in self._jobs if taken.job else False

    def _read_jobs(self) -> bool:
        """Read the states of our jobs now and then; return whether they are known."""
        jobs = {taken.job for taken in self._taken.values() if taken.job}
        now = time.monotonic()
        if not jobs or (self._jobs_read_at is not None and now - self._jobs_read_at < SLURM_INTERVAL_S):
            return bool(not jobs or self._jobs_read_at is not None)
        try:
            self._jobs = slurm.states_of_jobs(self._offer.slurm, jobs)
        except NotBegun as error:
            self._tell(str(error))
            return False
        self._jobs_read_at = now
        return True

    def _follow_again(self, taken: Taken) -> None:
        """Start what follows a training again, after it was killed or the host was restarted."""
        due_at, pause_s = self._again.get(taken.run, (0.0, FIRST_PAUSE_S))
        if time.monotonic() < due_at:
            return
        self._again[taken.run] = (time.monotonic() + pause_s, min(2 * pause_s, LONGEST_PAUSE_S))
        try:
            if taken.job:
                # Its job has ended, so only its unsent records are stored.
                begun, process = store_rest(taken, self._shelf, os.environ)
            elif taken.launcher == SBATCH:
                self._begin(taken)
                return
            else:
                begun, process = begin_here(taken, self._shelf, self._login.address, os.environ)
        except NotBegun as error:
            self._tell(f"run {taken.run}: {error}")
            return
        self._processes.append(process)
        self._keep(begun)

    def _why_not_begun(self, taken: Taken) -> str:
        said = self._shelf.last_line(taken.run)
        if taken.job:
            state = slurm.final_state(self._offer.slurm, taken.job)
            head = f"Slurm job {taken.job} ended{f' as {state}' if state else ''} before the training began."
            return f"{head} {said}".strip()
        return said or "The training could not be started, and steersman run printed nothing."

    def _note(self, taken: Taken) -> str:
        if not taken.job or has_begun(self._shelf.data, taken):
            return ""
        return slurm.words(*self._jobs.get(taken.job, ("submitted", "")), taken.job)

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            say(text)


def serve(offer: Offer, login: Login, data: Path) -> int:
    """Serve an offer until SIGINT or SIGTERM; return the exit code. Raises `NotServed`."""
    agent = Agent(offer, login, data)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stopping(agent.stop))
    return agent.serve()


def _stopping(stop: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
    def take(number: int, frame: FrameType | None) -> None:
        stop()

    return take
