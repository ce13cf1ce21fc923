"""A run whose host is cut off is lost, with the time since when nothing was heard, until it is heard again."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from runs.access.tokens import create_token
from runs.launches.opening import Launch, open_launch
from runs.models import Attempt, Membership, Project, Role, Run, RunState
from runs.protocol.causes import SilentHost
from runs.protocol.events import iso
from runs.recording.lifecycle import Holder, Lease, mark_lost
from runs.recording.record_side.session import RecordSession
from runs.recording.status import status_of
from steersman.messages.reports import Attach, Attached, Line, Report
from trainer.control.concluding import conclude_ended

pytestmark = pytest.mark.django_db


class Nobody:
    """Looks at no report."""

    def see(self, report: Report, step: int, stalled: bool) -> None: ...
    def take_lines(self) -> list[Line]:
        return []

    def finish(self) -> None: ...


def test_a_silent_host_is_named_with_its_last_sign_and_returns() -> None:
    user, project = User.objects.create(username="operator"), Project.objects.create(name="Lab", slug="lab")
    Membership.objects.create(project=project, user=user, role=Role.OPERATOR)
    token, _ = create_token(user, project, "train", name="cluster")
    run = open_launch(token, Launch("job 7", "0", Holder("gpu7", "boot", 1), [])).run
    assert mark_lost(run.pk, 1, run.heartbeat)
    run.refresh_from_db()
    assert run.heartbeat_at is not None
    cause = SilentHost(since=iso(run.heartbeat_at))
    assert run.state == RunState.LOST and status_of(run).cause == cause
    assert run.reason.startswith(f"No contact with the training host since {run.heartbeat_at:%Y-%m-%d %H:%M} UTC.")
    session = RecordSession(Lease(run.pk, Attempt.objects.get().pk, 1), conclude_ended, Nobody())
    (attached,) = session.answer(Attach("one"))
    assert isinstance(attached, Attached)
    # An open connection is no report.
    assert session.look(for_commands=True) == []
    run.refresh_from_db()
    assert run.state == RunState.LOST
    session.answer(Report(attached.session, 1, backlog_bytes=0))
    run.refresh_from_db()
    assert (run.state, run.reason) == (RunState.RUNNING, "")


def test_the_silence_of_a_host_with_access_to_the_database_is_told_as_before() -> None:
    project = Project.objects.create(name="Lab", slug="lab")
    run = Run.objects.create(project=project, state=RunState.RUNNING, attempt=1)
    assert mark_lost(run.pk, 1, 0)
    run.refresh_from_db()
    assert run.reason == "No heartbeat from the training host for 12 s."
