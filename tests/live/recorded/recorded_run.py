"""A run recorded step by step as in production, and what a page receives at every moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from runs.commands.record import record_as
from runs.curation.about import change_about
from runs.curation.tags import change_tags
from runs.models import RunState, StoredEvent
from runs.protocol.commands import parse_command
from runs.protocol.events import LineUnfinished
from runs.recording import queue
from runs.recording.checkpoints import forget_checkpoints, mark_checkpoint, note_push
from runs.recording.lifecycle import (
    AttemptEnd,
    Holder,
    adopt_attempt,
    deliver_command,
    expire_commands,
    mark_lost,
    open_commands,
    renew_lease,
)
from runs.recording.record_side.orders import as_post
from runs.recording.record_side.store import RecordSide
from runs.recording.status import announce_status
from runs.series import storage
from steersman.agent.journals.consoles import ConsolesRead
from steersman.agent.journals.merged import Journals
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.reporter import Reporter, StoredProgress
from steersman.agent.reporting.ticks import Tick
from steersman.commands import Done
from steersman.messages.looking import NOT_LOOKING
from steersman.records.posted import PostedCommand
from tests.live.recorded.recorded_trainings import OPERATOR, RecordedTrainings
from trainer.control.restart import conclude


@dataclass
class RecordedRun(RecordedTrainings):
    """A run with its story so far: also what people do with it, and how its attempts end."""

    # Before and between attempts

    def enqueue(self) -> None:
        queue.enqueue(self.pk)

    def withdraw(self) -> None:
        self.command("withdraw")

    def order_line(self) -> None:
        """Send three commands to a waiting run; two of them change nothing here."""
        self.command("set_priority", priority=-1)
        self.command("move_to_front")
        self.command("start_anyway")

    def fail_start(self) -> None:
        queue.fail_start(self.pk, self.row.attempt, "The recipe cannot be imported.")

    def lose_checkpoint(self) -> None:
        """Delete the files of a checkpoint, which the next start then removes from the list."""
        row = self.row
        forget_checkpoints(row.pk, row.attempt, row.checkpoints.order_by("pk")[:1])

    def mark_checkpoint(self) -> None:
        """Mark the newest checkpoint, or remove the mark."""
        checkpoint = self.row.checkpoints.order_by("-pk").first()
        if checkpoint is not None:
            mark_checkpoint(checkpoint, not checkpoint.keep)

    def push_checkpoint(self) -> None:
        """Send a copy of the oldest checkpoint to the portal, as a host does after it has sent the files."""
        checkpoint = self.row.checkpoints.order_by("pk").first()
        if checkpoint is not None:
            note_push(checkpoint)

    def write_about(self) -> None:
        """Somebody renames the run, describes it, or changes its tags."""
        number = self.row.last_seq
        change_about(self.pk, f"{self.name} renamed {number}", f"At event **{number}**.")
        change_tags(self.pk, add=[f"tag {number % 5}"], remove=[f"tag {(number + 1) % 5}"])

    # What people do

    def command(self, kind: str, later: bool = False, deliver: bool = True, **arguments: Any) -> str:
        """Send a command, and let the training act on it if it can; return its id."""
        payload: dict[str, Any] = {"command": kind, "arguments": arguments, "reason": "a test"}
        if later:
            payload["at"] = {"step": self.now.step + 50}
        row = record_as(self.pk, parse_command(payload), OPERATOR)
        if deliver and self.training is not None and self.row.is_live:
            self.deliver()
        return str(row.pk)

    def deliver(self) -> None:
        """Deliver the waiting commands; the training acts at its step boundary."""
        training = self.now
        expire_commands(self.pk)
        for command in open_commands(self.pk):
            if command.state == "sent" and deliver_command(training.lease, command):
                training.mailbox.post(as_post(command).command)
        training.client._take_commands()
        self.store()

    def pause(self) -> None:
        self.command("pause")

    def resume(self) -> None:
        self.command("resume")

    def set_knob(self) -> None:
        self.command("set_knob", knob="learning_rate", value=self.chance.choice((0.2, 0.05, 7.0)))

    def ask_for_checkpoint(self) -> None:
        self.command("save_checkpoint", name="by-hand")

    def roll_back(self) -> None:
        """Roll back to about half of the steps, as a training does after it has loaded a checkpoint."""
        training = self.now
        step = training.step // 2
        done = Done(old={"step": training.step}, new={"step": step}, goes_on_from=(step, step // 10))
        asked = self.command("roll_back", deliver=False)
        training.client.record_outcome(PostedCommand(id=asked, command="roll_back"), "applied", done)
        training.client.continue_from(step, step // 10)
        training.step = step
        self.store()

    def evaluate(self) -> None:
        self.command("evaluate")

    def write_note(self) -> None:
        self.command("note", text="The loss jumped here.")

    def extend(self) -> None:
        self.command("extend", epochs=2)

    def cancel(self) -> None:
        """Send a command for later, or one that no training receives, and withdraw it."""
        wanted = self.command("set_knob", later=self.row.is_live, deliver=False, knob="learning_rate", value=0.5)
        self.command("cancel", command=wanted)

    def stop(self) -> None:
        self.command("stop")

    # How attempts end

    def lose(self) -> None:
        row = self.row
        assert mark_lost(self.pk, row.attempt, row.heartbeat)

    def recover(self) -> None:
        self.log_points(3)

    def replace_supervisor(self) -> None:
        adopt_attempt(self.row.attempts.get(pk=self.now.lease.attempt_id), Holder("gpu-host", "boot", 2))

    def end(self, outcome: RunState) -> None:
        """The worker ends, and its supervisor closes the attempt; a failed run may be queued to restart."""
        error = f"ValueError: step {self.now.step}" if outcome == RunState.FAILED else ""
        code = 1 if error else 0
        conclude(self.now.lease, AttemptEnd(str(outcome), code, "", error, "Traceback …" if error else ""))
        self.training = None

    def finish(self) -> None:
        self.end(RunState.FINISHED)

    def stop_and_end(self) -> None:
        self.stop()
        self.end(RunState.STOPPED)

    def end_deaf(self) -> None:
        """The training does not read run.stopping, and a person ends its process."""
        renew_lease(self.now.lease, not_looking_since=datetime(2026, 1, 2, tzinfo=UTC))
        announce_status(self.pk, remark=NOT_LOOKING)
        self.command("end_process", deliver=False)
        for command in open_commands(self.pk):
            deliver_command(self.now.lease, command)
        self.end(RunState.STOPPED)

    def fail(self) -> None:
        self.end(RunState.FAILED)

    def take_over(self) -> None:
        """Another host opens an attempt while this one is silent; what this one logs later belongs to its history."""
        overtaken = self.now
        self.start()
        overtaken.client.log(overtaken.step + 1, **{"train/loss": 0.25, "only/then": 1.0})
        overtaken.client.log_epoch(9, step=overtaken.step + 1, validation_loss=0.01, best=True)
        side = RecordSide(overtaken.lease)
        side.keep_as_history()
        reporter = Reporter(side, overtaken.folder, Redactor(self.folder, self.folder, {}), StoredProgress())
        attached = reporter.attach()
        read = Journals(overtaken.folder, attached.positions, attached.last_steps).read()
        reporter.store(Tick(read=read, console=ConsolesRead(["printed too late"], 0, {})))

    def fold(self) -> None:
        """Move points from events to chunks, and forget how a progress bar moved: a page must not notice."""
        removed = StoredEvent.objects.filter(run_id=self.pk, kind__in=(*storage.POINT_KINDS, LineUnfinished.kind))
        self.folded |= dict(removed.values_list("seq", "frame"))
        storage.fold(self.pk)

    def legal(self) -> list[Callable[[], None]]:
        """Return the actions that may happen next."""
        state = self.state
        if state == "created":
            return [self.enqueue, self.start, self.write_note, self.extend, self.write_about]
        if state == "queued":
            return [
                self.withdraw, self.order_line, self.start, self.fail_start, self.stop, self.write_note, self.extend
            ]  # fmt: skip
        if state == "lost":
            known = [self.start, self.enqueue, self.write_note]
            return [*known, self.recover, self.recover] if self.training is not None else known
        if state == "finished":
            return [self.extend, self.write_note, self.write_about]
        if state in ("stopped", "failed"):
            return [
                self.enqueue,
                self.start,
                self.start,
                self.write_note,
                self.extend,
                self.lose_checkpoint,
                self.mark_checkpoint,
                self.push_checkpoint,
            ]
        always = [
            self.log_points, self.log_points, self.log_epoch, self.note, self.log_text, self.record_environment,
            self.save_checkpoint, self.print_lines, self.sample_system, self.set_knob, self.ask_for_checkpoint,
            self.evaluate, self.write_note, self.extend, self.cancel, self.lose, self.replace_supervisor, self.plan,
            self.fold, self.begin_alert, self.raise_alert, self.clear_alert, self.acknowledge_alert, self.roll_back,
            self.mark_checkpoint, self.push_checkpoint, self.write_about,
        ]  # fmt: skip
        if state == "paused":
            return [*always, self.resume, self.resume, self.stop_and_end, self.fail]
        return [*always, self.stall, self.pause, self.stop_and_end, self.fail, self.fail, self.finish]
