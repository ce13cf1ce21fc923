"""The commands for the host side of a run, and the commands that signals requested there.

A command counts as delivered when it is sent to a host side. The list of posted commands shows whether it reached the
training. If it did not, the next supervisor that attaches gets it again with the remaining seconds, or it expires.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import transaction

from runs.commands.record import NotAllowed, record
from runs.models import Attempt, Command, CommandState
from runs.protocol import commands
from runs.recording.lifecycle import (
    NOT_DELIVERED,
    Lease,
    complete_command,
    deliver_command,
    expire_commands,
    open_commands,
    renew_lease,
    runs_with_open_commands,
    seconds_left,
)
from runs.recording.record_side.lineage import NoSuchCheckpoint, to_roll_back_to
from steersman.messages.orders import EndProcess, Order, Post, SignalRequest
from steersman.records.posted import PostedCommand

# Raised by `record_asked` for a request that is not valid, or has the id of another run's command.
BAD_REQUESTS = (commands.InvalidCommand, NotAllowed)
NOT_POSTED = "The command expired before the training received it."


def take_orders(lease: Lease, posted: Collection[str]) -> list[Order]:
    """Return the commands for the host side, marked as delivered; `posted` are the commands that its training has.

    Raises `runs.recording.lifecycle.Fenced` if commands wait and another attempt holds the run.
    """
    if not runs_with_open_commands([lease.run_id]):
        return []
    with transaction.atomic():
        # A supervisor that no longer holds the run must not expire commands of the next one.
        renew_lease(lease)
        if not Attempt.objects.filter(pk=lease.attempt_id, ended_at=None).exists():
            # Those of a replay wait for the next attempt, although the host side of this one may still be connected.
            return []
        expire_commands(lease.run_id)
    orders = (_order(lease, command, str(command.pk) in posted) for command in open_commands(lease.run_id))
    return [order for order in orders if order is not None]


def _order(lease: Lease, command: Command, is_posted: bool) -> Order | None:
    if command.kind == commands.EndProcess.kind:
        # For the supervisor, because the worker does not read its commands. It is applied when the process has ended.
        return EndProcess(command.author_name) if deliver_command(lease, command) else None
    if command.state == CommandState.DELIVERED and is_posted:
        return None
    if is_posted:
        deliver_command(lease, command)
        return None
    try:
        post = as_post(command)
    except NoSuchCheckpoint as error:
        complete_command(command, CommandState.REFUSED, outcome=str(error))
        return None
    if post.expires_in_s is not None and post.expires_in_s <= 0:
        outcome = NOT_POSTED if command.state == CommandState.DELIVERED else NOT_DELIVERED
        complete_command(command, CommandState.EXPIRED, outcome=outcome, only_from=CommandState(command.state))
        return None
    # Marked first, so that a command that is cancelled at this moment does not reach the worker.
    if not deliver_command(lease, command):
        return None
    # That may have waited for the database: only the seconds that are left now count.
    post = Post(post.command, seconds_left(command))
    if post.expires_in_s is not None and post.expires_in_s <= 0:
        complete_command(command, CommandState.EXPIRED, outcome=NOT_POSTED, only_from=CommandState.DELIVERED)
        return None
    return post


def as_post(command: Command) -> Post:
    """Return a command in the form for the host side.

    Raises `NoSuchCheckpoint` if it rolls back to a checkpoint that the run does not have.
    """
    posted = PostedCommand(
        id=str(command.pk),
        command=command.kind,
        arguments=_arguments(command),
        author=command.author_name,
        at_step=command.at_step,
        at_epoch=command.at_epoch,
        at_roll_backs=_roll_backs_to_come(command),
        expected_state=command.expected_state,
        expected_value=command.expected_value,
    )
    return Post(posted, seconds_left(command))


def _roll_backs_to_come(command: Command) -> int | None:
    """Return after how many rollbacks of the current attempt a command takes effect, None if after any."""
    if command.at_roll_backs is None:
        return None
    run = command.run
    of_run = run.commands.filter(kind=commands.RollBack.kind, state=CommandState.APPLIED)
    return max(0, command.at_roll_backs - of_run.filter(attempt__lt=run.attempt).count())


def _arguments(command: Command) -> dict[str, Any]:
    """Return the arguments of a command for the training; those of a rollback also name the checkpoint.

    One that waits may go back to a checkpoint that is still to be saved: the training then chooses it.
    """
    given: dict[str, Any] = command.arguments
    if command.kind != commands.RollBack.kind:
        return given
    waits = (command.at_step, command.at_epoch) != (None, None)
    wanted = {"wanted": given["checkpoint"]} if waits else {}
    try:
        checkpoint = to_roll_back_to(command.run, given["checkpoint"], by_id=not waits)
    except NoSuchCheckpoint:
        if not waits:
            raise
        return given | wanted | {"path": "", "sha256": "", "step": 0, "epoch": 0, "has_manifest": False}
    return given | wanted | {
        "checkpoint": checkpoint.name,
        "path": checkpoint.path,
        "sha256": checkpoint.sha256,
        "step": checkpoint.step,
        "epoch": checkpoint.epoch,
        "has_manifest": checkpoint.has_manifest,
    }  # fmt: skip


def record_asked(lease: Lease, asked: SignalRequest) -> None:
    """Write the command of a signal into the command log, once. Raises `runs.recording.lifecycle.Fenced`.

    It is recorded as delivered, because the host side gave it to the training first. The same report may contain its
    outcome.
    """
    request = commands.parse_command({"command": asked.command, "arguments": asked.arguments, "id": asked.id})
    with transaction.atomic():
        renew_lease(lease)
        deliver_command(lease, record(lease.run_id, request, author_id=None, author_name=asked.author))
