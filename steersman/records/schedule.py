"""When a command takes effect that waits for a step, an epoch or a rollback."""

from __future__ import annotations

from dataclasses import dataclass

from steersman.records.posted import PostedCommand


@dataclass(frozen=True, slots=True)
class Moment:
    """A step boundary: how many steps and epochs are done, and how often the attempt has been rolled back."""

    step: int = 0
    epoch: int = 0
    roll_backs: int = 0


def is_later(command: PostedCommand, now: Moment) -> bool:
    """Return whether a command still waits: for a rollback, or for its step or epoch in the current lap."""
    if command.at_roll_backs is not None and command.at_roll_backs != now.roll_backs:
        return command.at_roll_backs > now.roll_backs
    if command.at_step is not None and command.at_step > now.step:
        return True
    return command.at_epoch is not None and command.at_epoch > now.epoch


def left_behind(command: PostedCommand, now: Moment) -> str:
    """Return the refusal of a command that was for an earlier lap of the training, "" for all others."""
    if command.at_roll_backs is None or command.at_roll_backs >= now.roll_backs:
        return ""
    return (
        f"The command was to take effect after {command.at_roll_backs} rollbacks, but the training has been rolled "
        f"back {now.roll_backs} times."
    )


def passed(command: PostedCommand, now: Moment) -> str:
    """Return the refusal of a command that came after its step or epoch, "" if it did not.

    One that waited is applied at the first step boundary from its step on: not every step need have one.
    """
    if left := left_behind(command, now):
        return left
    at_step, at_epoch = command.at_step, command.at_epoch
    if at_step is not None and at_step < now.step:
        return f"Step {at_step} has passed: the training was at step {now.step}."
    if at_epoch is not None and at_epoch < now.epoch:
        return f"Epoch {at_epoch} has passed: the training had completed epoch {now.epoch}."
    return ""
