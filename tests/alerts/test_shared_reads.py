"""The rules of all runs that a process judges are read together, and reach each of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from runs.models import ActionState, Alert, AlertRule, Checkpoint, Command, CommandState, Project, RuleAction, Run
from runs.protocol.commands import RollBack
from runs.recording.alert_rules import rules_of
from runs.recording.lifecycle import Holder, Lease, open_attempt
from trainer.alerts.shared_reads import SharedReads

pytestmark = pytest.mark.django_db(transaction=True)

LONG_S = 1_000.0


def leases(count: int, name: str = "Lab") -> list[Lease]:
    project, _ = Project.objects.get_or_create(name=name, slug=name.lower())
    runs = [Run.objects.create(project=project, name=f"run {number}") for number in range(count)]
    return [open_attempt(run.pk, Holder("host", "boot", 1), 0, command_line=[]) for run in runs]


def add_rule(lease: Lease, **fields: Any) -> AlertRule:
    project = Run.objects.get(pk=lease.run_id).project
    return AlertRule.objects.create(project=project, **{"detector": "spike", "series": "", **fields})


def add_alert(lease: Lease, **fields: Any) -> Alert:
    return Alert.objects.create(
        run_id=lease.run_id, attempt=lease.number, detector="spike", severity="warning", title="Spike", series="loss",
        began_at=datetime.now(UTC), **fields,
    )  # fmt: skip


def add_command(lease: Lease, state: CommandState) -> Command:
    return Command.objects.create(
        run_id=lease.run_id, attempt=lease.number, kind=RollBack.kind, state=state, sent_at=datetime.now(UTC)
    )


def test_each_run_gets_its_own_rules_and_those_of_its_project() -> None:
    one, two = leases(2)
    (other,) = leases(1, "Other")
    add_rule(one, series="loss", run_id=one.run_id)
    add_rule(one, detector="divergence")
    add_rule(other, detector="plateau")
    reads = SharedReads()
    for _ in range(2):
        for lease in (one, two, other):
            found = reads.of(lease, 0.0)
            assert list(found.rules) == list(rules_of(Run.objects.get(pk=lease.run_id)))
    assert [len(reads.of(lease, LONG_S).rules) for lease in (one, two, other)] == [2, 1, 1]


def test_one_look_reads_for_all_and_a_change_is_seen_after_the_age() -> None:
    few, many = SharedReads(), SharedReads()
    known = leases(12)
    for lease in known[:2]:
        few.of(lease, LONG_S)
    for lease in known:
        many.of(lease, LONG_S)
    add_rule(known[0])
    assert many.of(known[3], LONG_S).rules == ()
    with CaptureQueriesContext(connection) as of_few:
        few.of(known[0], 0.0)
    with CaptureQueriesContext(connection) as of_many:
        assert len(many.of(known[0], 0.0).rules) == 1
    assert len(of_few) == len(of_many) > 0
    with CaptureQueriesContext(connection) as none:
        assert all(len(many.of(lease, LONG_S).rules) == 1 for lease in known)
    assert len(none) == 0


def test_only_attempts_with_such_rows_have_work() -> None:
    idle, saved, refused, rolled_back = known = leases(4)
    Checkpoint.objects.create(
        run_id=saved.run_id, attempt=saved.number, path="a", step=1, epoch=1, size_bytes=1, created_at=datetime.now(UTC)
    )
    command = add_command(refused, CommandState.REFUSED)
    add_alert(refused, action=RuleAction.ROLL_BACK, action_state=ActionState.ASKED, command=command)
    add_command(rolled_back, CommandState.APPLIED)
    reads = SharedReads()
    found = [reads.of(lease, 0.0) for lease in known]
    work = [(each.has_unrated_checkpoints, each.has_refused_roll_backs, each.has_roll_backs) for each in found]
    assert work == [(False, False, False), (True, False, False), (False, True, False), (False, False, True)]
    later = open_attempt(saved.run_id, Holder("host", "boot", 2), saved.number, command_line=[])
    assert not reads.of(later, 0.0).has_unrated_checkpoints and not reads.of(idle, 0.0).has_roll_backs


def test_a_deleted_run_is_told_to_its_own_thread_only() -> None:
    gone, other = leases(2)
    reads = SharedReads()
    reads.of(gone, 0.0)
    reads.of(other, 0.0)
    Run.objects.filter(pk=gone.run_id).delete()
    for _ in range(2):
        assert reads.of(other, 0.0).rules == ()
        with pytest.raises(Run.DoesNotExist):
            reads.of(gone, 0.0)
    reads.forget(gone)
    reads.forget(gone)
