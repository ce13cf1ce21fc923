"""The action of a rule when its alert begins: an ordinary command, within the rule's limits.

The action is stored with the alert from the beginning. Its outcome is stored in one transaction with the command, whose
id is derived from the alert. If a process dies in between, the command is neither lost nor sent twice: the next process
that judges the run calls `catch_up`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import translation

from runs.alerts.rulebook.recovering import Recovery, knob_numbers, knob_numbers_at, recovery_from
from runs.alerts.rules import Rule
from runs.commands.record import record
from runs.models import ActionState, Alert, Command, CommandState, HeldBack, RuleAction, Run
from runs.models.alerts import LONGEST_NAME
from runs.protocol.causes import OfAlert
from runs.protocol.commands import (
    Pause,
    Request,
    RollBack,
    RunCommand,
    SaveCheckpoint,
    SetKnob,
    Stop,
)
from runs.recording import alerts
from runs.recording.alert_rules import as_rule

NAMESPACE = UUID("5a3f6f0e-9a0c-4c7a-8e0b-0d7f8b9c2e11")
LONGEST_ACTION = 200
HOUR = timedelta(hours=1)
# Alerts of one attempt that begin this close together have one cause, and need one action: a loss, its copy under
# another name, the norm of its gradients and the next evaluation.
CAUSE = timedelta(minutes=1)
# A training that has not applied the command by then may be in another state.
EXPIRY_S = 600.0


def act(alert_id: int) -> None:
    """Perform the action of the alert's rule, or store why not. Has no effect if that was done before."""
    with transaction.atomic():
        # Lock the row of the run first, as everywhere.
        alert = Alert.objects.filter(pk=alert_id).first()
        if alert is None:
            return
        run = Run.objects.select_for_update().get(pk=alert.run_id)
        alert = Alert.objects.select_related("rule").get(pk=alert_id)
        if not alert.action or alert.action_state:
            return
        _settle(run, alert)
        alerts.note_action(alert)


def catch_up(run_id: int) -> int:
    """Perform the actions that an earlier process of this run left undone; return how many."""
    left = Alert.objects.filter(run_id=run_id, action_state="").exclude(action="").order_by("pk")
    pending = list(left.values_list("pk", flat=True))
    for pk in pending:
        act(pk)
    return len(pending)


def try_older(run_id: int, attempt: int) -> int:
    """Roll back to an older checkpoint if the training refused that of a rule; return how many alerts this settled.

    The checkpoint may be damaged, or may have been removed. Without an older one the rule gives up. A fault that is
    over needs no rollback.
    """
    refused = _refused_roll_backs().filter(run_id=run_id, attempt=attempt)
    pending = list(refused.order_by("pk").values_list("pk", flat=True))
    for pk in pending:
        with transaction.atomic():
            run = Run.objects.select_for_update().get(pk=run_id)
            alert = refused.select_related("rule", "command").filter(pk=pk).first()
            if alert is not None:
                _try_older(run, alert)
                alerts.note_action(alert)
    return len(pending)


def with_refused_roll_backs(run_ids: Collection[int]) -> set[tuple[int, int]]:
    """Return (run, attempt) of the attempts that have alerts for `try_older`."""
    return set(_refused_roll_backs().filter(run__in=run_ids).order_by().values_list("run_id", "attempt"))


def _refused_roll_backs() -> QuerySet[Alert]:
    return Alert.objects.filter(
        state__in=alerts.LASTING,
        action=RuleAction.ROLL_BACK,
        action_state=ActionState.ASKED,
        command__state=CommandState.REFUSED,
    )


def _try_older(run: Run, alert: Alert) -> None:
    rule = as_rule(alert.rule) if alert.rule is not None else None
    if rule is None or not rule.is_on or rule.action != alert.action:
        reason: HeldBack | None = HeldBack.RULE_CHANGED
    else:
        reason = _no_recovery(run, alert, rule)
    recovery = _recovery(run, alert, rule) if rule is not None and reason is None else None
    if rule is None or recovery is None:
        _hold_back(alert, reason or HeldBack.NO_CHECKPOINT)
        return
    alert.action_text = recovery.text[:LONGEST_ACTION]
    alert.command = _ask(run, alert, rule, recovery.command)


def command_id(alert: Alert) -> UUID:
    """Return the id of the command that follows an alert, and after it was refused, that of the next one.

    Both are always the same.
    """
    refused = "" if alert.command_id is None else f" after {alert.command_id}"
    return uuid5(NAMESPACE, f"alert {alert.pk} of run {alert.run_id}{refused}")


def _settle(run: Run, alert: Alert) -> None:
    """Decide the action of an alert and record its command."""
    rule = as_rule(alert.rule) if alert.rule is not None else None
    reason = _held_back(run, alert, rule)
    if reason is not None or rule is None:
        _hold_back(alert, reason or HeldBack.RULE_CHANGED)
        return
    command = _command_of(rule)
    if rule.action == RuleAction.SCALE_KNOB:
        alert.action_text = f"{rule.knob} × {rule.factor:g}"
    elif recovery := _recovery(run, alert, rule):
        alert.action_text, command = recovery.text[:LONGEST_ACTION], recovery.command
    alert.action_state = ActionState.DRY_RUN if rule.dry_run else ActionState.ASKED
    if not rule.dry_run:
        alert.command = _ask(run, alert, rule, command)


def _hold_back(alert: Alert, reason: HeldBack) -> None:
    alert.action_state, alert.held_back = ActionState.HELD_BACK, reason
    with translation.override(None):
        alert.action_text = str(reason.label)


def _held_back(run: Run, alert: Alert, rule: Rule | None) -> HeldBack | None:
    """Return why a rule may not act now, None if it may."""
    if rule is None or not rule.is_on or rule.action != alert.action:
        return HeldBack.RULE_CHANGED
    if alert.attempt != run.attempt:
        return HeldBack.ATTEMPT_ENDED
    if not rule.dry_run and _is_replayed(run, alert, rule):
        return HeldBack.REPLAYED
    state = ActionState.DRY_RUN if rule.dry_run else ActionState.ASKED
    alike = Alert.objects.filter(run=run, action=alert.action).exclude(pk=alert.pk)
    # A replayed command counts as the action of the rule.
    acted = list(alike.filter(Q(action_state=state) | Q(held_back=HeldBack.REPLAYED)).select_related("command"))
    if any(_has_same_cause(each, alert) for each in acted):
        return HeldBack.SAME_CAUSE
    # Compared by detector and series instead of the rule's row, so that copies of a rule share its limits. Each series
    # counts separately: an action for a validation loss must not use up the action for the training loss.
    earlier = [each for each in acted if (each.detector, each.series) == (alert.detector, alert.series)]
    in_attempt = sum(each.attempt == alert.attempt for each in earlier)
    if rule.most_per_attempt is not None and in_attempt >= rule.most_per_attempt:
        return HeldBack.ACTED_IN_ATTEMPT
    if sum(abs(each.began_at - alert.began_at) < HOUR for each in earlier) >= rule.most_per_hour:
        return HeldBack.ACTED_OFTEN
    if rule.action == RuleAction.ROLL_BACK:
        return _no_recovery(run, alert, rule)
    if rule.action != RuleAction.SCALE_KNOB:
        return HeldBack.NOT_DONE if run.withholds(_command_of(rule).kind) else None
    values = knob_numbers(run, rule.knob)
    if not values or rule.factor is None:
        return HeldBack.NO_KNOB
    return HeldBack.TOO_SMALL if rule.makes_too_small(values) else None


def _recovery(run: Run, alert: Alert, rule: Rule) -> Recovery | None:
    """Return the rollback that a rule would request, None if it requests none."""
    if rule.action != RuleAction.ROLL_BACK:
        return None
    return recovery_from(
        run,
        alert,
        rule.knob,
        rule.factor if rule.knob else None,
        factor_from=rule.factor_from,
        skip_batches=rule.skip_batches,
        skip_from=rule.skip_from,
    )


def _no_recovery(run: Run, alert: Alert, rule: Rule) -> HeldBack | None:
    """Return why a rule may not roll the run back, None if it may."""
    if run.withholds(RollBack.kind):
        return HeldBack.NO_ROLL_BACK
    recovery = _recovery(run, alert, rule)
    if recovery is None:
        return HeldBack.NO_CHECKPOINT
    if not recovery.knob:
        return None
    values = knob_numbers_at(run, rule.knob, recovery.checkpoint)
    if not values or recovery.factor is None:
        return HeldBack.NO_KNOB
    return HeldBack.TOO_SMALL if replace(rule, factor=recovery.factor).makes_too_small(values) else None


def _has_same_cause(acted: Alert, alert: Alert) -> bool:
    """Return whether what was done for an alert is the cure for another one too."""
    if acted.attempt != alert.attempt or not _is_soon(acted.began_at, alert):
        return False
    command = acted.command
    if command is None or command.kind != RollBack.kind or command.applied_at is None:
        return True
    # A fault that begins after a rollback is a new one, or was not cured by it.
    return alert.began_at <= command.applied_at


def _is_soon(moment: datetime, alert: Alert) -> bool:
    return abs(moment - alert.began_at) < CAUSE


def _is_replayed(run: Run, alert: Alert, rule: Rule) -> bool:
    """Return whether a replay has already scheduled the command that the rule would send now.

    A replayed command of a rule counts as the action of the first alert that begins before its step, and of no other.
    """
    given = run.commands.filter(kind=_command_of(rule).kind).exclude(replayed_rule="")
    waiting = [
        command
        for command in given.exclude(state__in=(CommandState.REFUSED, CommandState.EXPIRED)).order_by("at_step")
        if rule.action != RuleAction.SCALE_KNOB or command.arguments.get("knob") == rule.knob
    ]
    before = Alert.objects.filter(run=run, action=alert.action, held_back=HeldBack.REPLAYED).exclude(pk=alert.pk)
    found = None
    for each in (*before.order_by("step", "pk"), alert):
        found = next((command for command in waiting if _follows(command, each)), None)
        if found is not None:
            waiting.remove(found)
    return found is not None


def _follows(command: Command, alert: Alert) -> bool:
    """Return whether a command takes effect at or after the beginning of an alert."""
    took_effect = command.applied_at is not None and _is_soon(command.applied_at, alert)
    return took_effect or (command.at_step or 0) >= (alert.step or 0)


def expected_value(run: Run, rule: Rule) -> float | int | None:
    """Return the current value of the rule's knob, None if the rule has no minimum or groups differ.

    A change of the knob in the meantime, by a person or by another link, wins.
    """
    values = knob_numbers(run, rule.knob) if rule.smallest is not None else []
    return values[0] if len(set(values)) == 1 else None


def _command_of(rule: Rule) -> RunCommand:
    match rule.action:
        case RuleAction.PAUSE:
            return Pause()
        case RuleAction.STOP:
            return Stop()
        case RuleAction.SAVE_CHECKPOINT:
            return SaveCheckpoint(name=f"alert {rule.detector}")
        case RuleAction.ROLL_BACK:
            return RollBack(knob=rule.knob, factor=rule.factor if rule.knob else None)
        case _:
            return SetKnob(knob=rule.knob, factor=rule.factor)


def _ask(run: Run, alert: Alert, rule: Rule, command: RunCommand) -> Command:
    cause = OfAlert(detector=alert.detector, title=alert.title, series=alert.series)
    request = Request(
        id=command_id(alert),
        command=command,
        expires_in_s=EXPIRY_S,
        # A rollback restores the value that the knob had at the checkpoint.
        expected_value=expected_value(run, rule) if rule.action == RuleAction.SCALE_KNOB else None,
    ).caused_by(cause)
    name = f"rule {rule.name}"[:LONGEST_NAME]
    return record(run.pk, request, author_id=None, author_name=name, rule_id=rule.id)
