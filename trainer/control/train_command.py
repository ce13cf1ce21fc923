"""From `train --run-id N` to a supervised attempt: check for a holder of the run, adopt or start, then follow."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

from django.conf import settings

from runs.models import LONGEST_NAME, UNNAMED, Attempt, Checkpoint, Run, RunState
from runs.recording import queue
from runs.recording.lifecycle import AttemptEnd, Fenced, Lease, NotStartable, end_attempt, open_attempt, renew_lease
from steersman.agent.folders import WorkerProcess, attempt_folder
from steersman.agent.launch.attempt_folder import ResumeFrom, make_attempt_folder
from steersman.agent.launch.given_devices import device_there, given_devices
from steersman.agent.launch.spawn import script_command, script_name, why_not_there
from steersman.agent.launch.torchrun import (
    Launch,
    LaunchError,
    NoAttempt,
    announce,
    announce_beginning,
    announce_failure,
    close_node_server,
    join,
    open_node_server,
    start_first,
    start_worker_group,
    torchrun_launch,
)
from steersman.agent.launch.worker_group import WorkerGroup
from steersman.agent.machine.redactor import Redactor
from steersman.agent.supervise.interrupts import Interrupts
from steersman.exit_codes import EXIT_FAILED, EXIT_FENCED, EXIT_FINISHED, EXIT_HELD, EXIT_INTERRUPTED
from steersman.files.changed_knobs import ChangedKnobs
from steersman.files.journal_bound import JOURNAL_MIB_VARIABLE
from steersman.files.locks import HeldLock
from steersman.files.private import open_private
from steersman.messages.reports import Line
from steersman.run import START_PAUSED_VARIABLE
from steersman.spec import SpecError, typed_values
from trainer.control.confirmation import confirm_start_over
from trainer.control.display import Display, display_for
from trainer.control.knob_changes import changed_knobs, knobs_to_begin_with
from trainer.control.lease import CannotTrain, adoptable, came_before, myself, take_lease
from trainer.control.publish import NO_TORCH, torch_is_installed
from trainer.control.restart import Start, wait_to_restart, without_ours, work_where_it_began
from trainer.control.resume_choice import (
    NoSuchCheckpoint,
    checkpoint_folder,
    chosen,
    forget_older,
    is_origin,
    lost_origin,
    newest,
    remove_unfinished,
)
from trainer.control.supervisor import Supervisor
from trainer.worker.task import Task, recipe_command, write_task

INLINE_ADOPTION_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `train`."""

    run_id: int
    device: str = ""
    quiet: bool = False
    inline: bool = False
    adopt: bool = False
    # The number of restarts after a crash; by default as recorded.
    restarts: int | None = None
    # The checkpoint to resume from, by id, name or step; default: the newest valid one.
    start: str = ""
    # The number of processes that train together on this host; by default as recorded.
    nproc: int | None = None
    # Start a run that has points over, without asking a person at the terminal.
    start_over: bool = False
    script: tuple[str, ...] = ()


def train(options: Options) -> int:
    """Hold the run and follow its training to the end; return the exit code. Raises `CannotTrain`.

    Under torchrun only rank 0 does this; the other ranks train with it.
    """
    launch = _launch()
    interrupts = _take_signals()
    if launch is None:
        return _hold_and_train(options, interrupts)
    if options.nproc is not None or options.inline:
        raise CannotTrain("nproc: torchrun sets the number of processes; leave out --nproc and --inline.")
    if launch.rank:
        return _join(options.run_id, launch, interrupts)
    try:
        if launch.nodes > 1:
            announce_beginning(settings.STEERSMAN_DATA, options.run_id, launch)
        return _hold_and_train(options, interrupts)
    except BaseException as error:
        code = error.exit_code if isinstance(error, CannotTrain) else EXIT_FAILED
        announce_failure(settings.STEERSMAN_DATA, options.run_id, launch, code)
        raise


def _launch() -> Launch | None:
    try:
        return torchrun_launch(os.environ)
    except LaunchError as error:
        raise CannotTrain(str(error)) from error


def _join(run_id: int, launch: Launch, interrupts: Interrupts) -> int:
    try:
        return join(settings.STEERSMAN_DATA, settings.BASE_DIR, run_id, launch, interrupts, os.environ)
    except NoAttempt as error:
        raise CannotTrain(f"rank {launch.rank}: {error}.", error.exit_code) from error
    except OSError as error:
        raise CannotTrain(f"rank {launch.rank} cannot be started: {error.strerror}.", EXIT_FAILED) from error


def _hold_and_train(options: Options, interrupts: Interrupts) -> int:
    run = Run.objects.select_related("recipe").filter(pk=options.run_id).first()
    if run is None:
        raise CannotTrain(f"run-id: there is no run {options.run_id}; create one with manage.py create_run.")
    if run.recipe is not None and not options.script and not torch_is_installed():
        raise CannotTrain(NO_TORCH)
    lock = take_lease(run, interrupts)
    display = display_for(run.pk, queue.start_command(run, options.script), options.quiet)
    try:
        kept = {"restarts": options.restarts, "ranks": options.nproc}
        if given := {name: value for name, value in kept.items() if value is not None}:
            Run.objects.filter(pk=run.pk).update(**given)
            run.refresh_from_db()
        if queue.waits_to_restart(run) and not options.adopt:
            # Its supervisor was killed while it waited.
            return _restart_while_it_fails(run, options, interrupts, display, lock)
        code = _train_once(run, options, interrupts, display, lock)
        if wait_to_restart(run, interrupts, display):
            code = _restart_while_it_fails(run, options, interrupts, display, lock)
        return code
    finally:
        lock.release()


def _restart_while_it_fails(
    run: Run, options: Options, interrupts: Interrupts, display: Display, lock: HeldLock
) -> int:
    """Start a run whose restart is due, and again after each failure while it has restarts left."""
    while True:
        start = work_where_it_began(run)
        script = options.script or (tuple(start.script) if start else ())
        device = options.device or (start.device if start else "")
        again = replace(options, script=script, device=device, start="", inline=False, adopt=False)
        try:
            code = _train_once(run, again, interrupts, display, lock, restart=True)
        except CannotTrain as error:
            if error.exit_code != EXIT_HELD:
                queue.fail_start(run.pk, run.attempt, str(error))
            raise
        if not wait_to_restart(run, interrupts, display):
            return code


def _train_once(
    run: Run, options: Options, interrupts: Interrupts, display: Display, lock: HeldLock, *, restart: bool = False
) -> int:
    """Adopt a live training, or start one, and follow it to its end."""
    lease = adoptable(run, options.start, torchrun=_launch() is not None)
    if lease is not None:
        return _follow_adopted(lease, display, interrupts)
    if options.adopt:
        display.say(f"run {run.pk}: nothing is adopted, because no training is running without a supervisor")
        return EXIT_FINISHED
    work = _prepare(run, options)
    launch = _launch()
    ranks = launch.ranks if launch else run.ranks
    if options.inline and ranks > 1:
        raise CannotTrain(
            f"inline: only one process can use the terminal, but run {run.pk} has {ranks}; add --nproc 1."
        )
    if work.checkpoint is None and not (restart or options.start_over or launch):
        confirm_start_over(run, interrupts)
    if interrupts.stops:
        raise CannotTrain(came_before(run.pk, interrupts), EXIT_INTERRUPTED)
    try:
        lease = open_attempt(
            run.pk,
            myself(),
            run.attempt,
            command_line=_as_typed(options.script),
            resumed_from=work.checkpoint,
            restart=restart,
            ranks=ranks,
            launch=launch.key if launch else "",
            given_devices=given_devices(os.environ),
        )
    except NotStartable as error:
        raise CannotTrain(f"run-id: {error}.") from error
    except Fenced as error:
        raise CannotTrain(str(error), EXIT_HELD) from error
    if options.script:
        # The default name of a run, which is replaced by the name of its script.
        Run.objects.filter(pk=run.pk, name=UNNAMED).update(name=script_name(options.script)[:LONGEST_NAME])
    prepared = _make_folder(lease, work)
    own = without_ours(os.environ)
    start = Start(list(options.script), os.getcwd(), options.device, options.inline, own)
    start.record(prepared.folder)
    try:
        # If this process was suspended before this line, another one may have taken over: it must then start nothing.
        renew_lease(lease)
    except Fenced as error:
        raise CannotTrain(str(error), EXIT_FENCED) from error
    if options.inline:
        _become_worker(lease, prepared, lock, interrupts)
    return _start(lease, prepared, ranks, launch, display, interrupts, work.lines)


def _as_typed(script: tuple[str, ...]) -> list[str]:
    """Return the parts of a command line, redacted."""
    redactor = Redactor(settings.STEERSMAN_DATA, settings.BASE_DIR)
    return [redactor.text(word) for word in script]


def _take_signals() -> Interrupts:
    """Handle signals from here on: an early signal must not leave the worker without a supervisor."""
    try:
        interrupts = Interrupts(settings.STEERSMAN_STOP_SIGNAL)
    except ValueError as error:
        raise CannotTrain(str(error)) from error
    interrupts.install()
    return interrupts


def _follow_adopted(lease: Lease, display: Display, interrupts: Interrupts) -> int:
    folder = attempt_folder(settings.STEERSMAN_DATA, lease.run_id, lease.number)
    group = WorkerGroup.adopted(folder, Attempt.objects.get(pk=lease.attempt_id).ranks)
    if not group.pids:
        raise CannotTrain(f"run {lease.run_id}: its training process ended just now; try again.", EXIT_FAILED)
    living = "process" if len(group.pids) == 1 else "processes"
    pids = ", ".join(map(str, group.pids))
    display.say(f"run {lease.run_id}: adopting the running training {living} {pids} of attempt {lease.number}")
    return Supervisor(lease, folder, group, display, interrupts).follow()


@dataclass(slots=True)
class Work:
    """The work of an attempt: a script's command, or a recipe's task and the checkpoint from which it resumes."""

    command: list[str] = field(default_factory=list)
    task: Task | None = None
    checkpoint: Checkpoint | None = None
    changed_knobs: ChangedKnobs = field(default_factory=dict)
    start_paused: bool = False
    lines: list[Line] = field(default_factory=list)


def _prepare(run: Run, options: Options) -> Work:
    """Check the options before anything starts. Raises `CannotTrain` naming the field."""
    # Later attempts resume automatically: after a crash at night, nobody may be present to resume.
    start_paused = run.start_paused and run.attempt == 0
    if options.script:
        if run.recipe is not None:
            raise CannotTrain(
                f"run {run.pk} trains the recipe {run.recipe.spec}: leave out the script, "
                "or create a run without a recipe for your script."
            )
        if fault := why_not_there(options.script):
            raise CannotTrain(f"script: {fault}")
        work = Work(script_command(options.script), start_paused=start_paused)
        if not options.start_over:
            work.changed_knobs = changed_knobs(run, settings.STEERSMAN_DATA)
        return _choose_checkpoint(run, options, work)
    if run.recipe is None:
        previous = run.attempts.exclude(command_line=[]).order_by("-number").first()
        example = " ".join(previous.command_line) if previous else "your_script.py"
        line = f"manage.py train --run-id {run.pk} -- {example}"
        raise CannotTrain(f"run {run.pk} has no recipe: name your script, as in {line}")
    try:
        parameters = typed_values(run.recipe.parameter_specs, run.parameters)
    except SpecError as error:
        raise CannotTrain(f"parameters: {error}") from error
    work = _choose_checkpoint(run, options, Work(start_paused=start_paused))
    chosen_one = work.checkpoint if options.start else None
    work.changed_knobs = knobs_to_begin_with(run, settings.STEERSMAN_DATA, chosen_one)
    work.task = Task(
        run=run.pk,
        attempt=run.attempt + 1,
        recipe=run.recipe.spec,
        parameters=parameters,
        device=device_there(options.device or run.device, os.environ),
        seed=run.seed,
        deterministic=run.deterministic,
        extra_epochs=run.extra_epochs,
        checkpoint=_as_task(work.checkpoint) if work.checkpoint else None,
        is_branch=work.checkpoint is not None and is_origin(work.checkpoint),
        inline=options.inline,
    )
    return work


def _choose_checkpoint(run: Run, options: Options, work: Work) -> Work:
    """Add the checkpoint to resume from, and remove those that are no longer kept. Raises `CannotTrain`."""
    remove_unfinished(run, work.lines)
    if options.start or not (options.start_over and run.recipe is None):
        try:
            work.checkpoint = chosen(run, options.start) if options.start else newest(run, work.lines)
        except NoSuchCheckpoint as error:
            raise CannotTrain(f"from: {error}") from error
        if work.checkpoint is None and not options.start_over and (reason := lost_origin(run)):
            raise CannotTrain(f"from: {reason}")
    forget_older(run, work.checkpoint, work.lines)
    return work


def _as_task(checkpoint: Checkpoint) -> dict[str, str]:
    return {"path": str(checkpoint_folder(checkpoint)), "sha256": checkpoint.sha256}


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that is needed to start an attempt's worker."""

    folder: Path
    command: list[str]
    environment: dict[str, str]


def _make_folder(lease: Lease, work: Work) -> Prepared:
    command = work.command
    folder = attempt_folder(settings.STEERSMAN_DATA, lease.run_id, lease.number)
    checkpoint = work.checkpoint
    environment = make_attempt_folder(
        folder,
        settings.STEERSMAN_DATA,
        settings.BASE_DIR,
        resume=ResumeFrom(checkpoint_folder(checkpoint), checkpoint.sha256) if checkpoint is not None else None,
        changed_knobs=work.changed_knobs,
        journal_mib=settings.STEERSMAN_JOURNAL_MIB,
        start_paused=work.start_paused,
    )
    if work.task is not None:
        command = recipe_command(write_task(work.task, folder))
        # A person's own recipe is in the folder where `train` was started, and may subclass a built-in one.
        environment["PYTHONPATH"] = os.pathsep.join([os.getcwd(), str(settings.BASE_DIR), environment["PYTHONPATH"]])
    return Prepared(folder, command, environment)


def _start(
    lease: Lease,
    prepared: Prepared,
    ranks: int,
    launch: Launch | None,
    display: Display,
    interrupts: Interrupts,
    lines: list[Line],
) -> int:
    folder, command, environment = prepared.folder, prepared.command, prepared.environment
    server = None
    try:
        if launch is None:
            group = start_worker_group(command, environment, folder, ranks)
        else:
            variables = {
                name: environment[name] for name in ("PYTHONPATH", START_PAUSED_VARIABLE, JOURNAL_MIB_VARIABLE)
            }
            server = open_node_server(folder, launch)
            announce(settings.STEERSMAN_DATA, lease.run_id, launch, folder, command, variables, server)
            group = start_first(command, environment, folder, launch, server)
    except OSError as error:
        end_attempt(lease, AttemptEnd(RunState.FAILED, error=f"The program could not be started: {error.strerror}."))
        raise CannotTrain(f"script: {prepared.command[0]} cannot be started: {error.strerror}.", EXIT_FAILED) from error
    try:
        return Supervisor(lease, folder, group, display, interrupts, lines).follow()
    finally:
        if launch is not None and server is not None:
            close_node_server(settings.STEERSMAN_DATA, lease.run_id, launch, server)


def _become_worker(lease: Lease, prepared: Prepared, lock: HeldLock, interrupts: Interrupts) -> NoReturn:
    """Swap roles: this process, which owns the terminal, becomes the worker; a child adopts and supervises it."""
    WorkerProcess.of(os.getpid()).record(prepared.folder)
    lock.release()
    log = prepared.folder / "supervisor.log"
    with open_private(log, "ab") as output:
        subprocess.Popen(
            [sys.executable, str(settings.BASE_DIR / "manage.py"), "train", "--run-id", str(lease.run_id), "--quiet"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    until = time.monotonic() + INLINE_ADOPTION_TIMEOUT_S
    while not Attempt.objects.filter(pk=lease.attempt_id, adoptions__gt=0).exists():
        if time.monotonic() > until:
            raise CannotTrain(f"the supervisor did not start; see {log}", EXIT_FAILED)
        time.sleep(0.05)
    if interrupts.stops:
        raise CannotTrain(came_before(lease.run_id, interrupts), EXIT_INTERRUPTED)
    # exec keeps the pid, so the supervisor watches the right process.
    os.execve(prepared.command[0], prepared.command, prepared.environment)
