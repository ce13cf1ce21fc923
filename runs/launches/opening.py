"""Opening the run and the attempt of a launch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from runs.access.roles import COMMANDING_ROLES, display_name, operators_only
from runs.branching.elsewhere import Origin, Planned, begins_at, open_elsewhere
from runs.branching.requests import Author
from runs.models import ORIGIN_ATTEMPT, UNNAMED, AccessToken, AgentRun, Membership, RemoteLaunch, Run, RunState
from runs.recording.lifecycle import Holder, open_attempt
from runs.recording.liveness import silent, write_watch
from runs.recording.queue import waits_to_restart

# States in which an agent has no request to start a run.
NOT_REQUESTED = (RunState.CREATED, RunState.STOPPED, RunState.FAILED)


@dataclass(frozen=True, slots=True)
class Launch:
    """The start of a training on a host.

    `key` identifies the run: a requeued job has the same key. `start` identifies the attempt: all ranks of one start
    have the same one, and a requeued job has another one. `project` is the name or the slug of the project that the
    person wants, "" for that of the token. `started` and `folder`: see `RemoteLaunch`. A new run begins at
    the checkpoint `origin` of another run, which the host has.
    """

    key: str
    start: str
    holder: Holder
    command_line: list[str]
    name: str = ""
    ranks: int = 1
    restarts: int = 0
    project: str = ""
    started: Sequence[str] = ()
    folder: str = ""
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A run and its current attempt. `is_new_run` and `is_new_attempt`: whether this call created them."""

    run: Run
    attempt: int
    is_new_run: bool
    is_new_attempt: bool


class NotAllowedToOpen(Exception):
    """The person who made the token may no longer start runs in its project."""


class OtherProject(Exception):
    """The token makes no runs in the project that was asked for. The text gives the remedy."""


class NotOpened(Exception):
    """The run cannot get another attempt now. The text gives the reason and the remedy."""


def open_launch(token: AccessToken, launch: Launch) -> Opened:
    """Return the run of a launch and its current attempt; create what does not exist yet.

    Raises `NotAllowedToOpen`, `OtherProject` and `NotOpened`.
    """
    if launch.project not in ("", token.project.name, token.project.slug):
        text = _(
            "This token creates runs in the project %(own)s, not in %(asked)s. Leave the project out, or log in with a "
            "token of the project %(asked)s."
        )
        raise OtherProject(text % {"own": token.project.name, "asked": launch.project})
    write_watch.look()
    with transaction.atomic():
        # Ranks call this at the same time: the lock on the membership lets one after the other in.
        members = Membership.objects.select_for_update().filter(project=token.project, user=token.created_by)
        member = members.first()
        if member is None or member.role not in COMMANDING_ROLES:
            raise NotAllowedToOpen(operators_only())
        row, is_new_run = _row_of(token, launch)
        run = Run.objects.select_for_update().get(pk=row.run_id)
        if launch.origin is not None and not begins_at(run, launch.origin):
            text = _(
                "Run %(run)d already has this key, but did not begin at that checkpoint. Leave out --from to "
                "continue the run, or give another key to create a new run."
            )
            raise NotOpened(text % {"run": run.pk})
        if row.start == launch.start:
            return Opened(run, row.attempt, is_new_run, False)
        _check_startable(run)
        lease = open_attempt(
            run.pk,
            launch.holder,
            run.attempt,
            command_line=launch.command_line,
            resumed_from=run.checkpoints.filter(attempt=ORIGIN_ATTEMPT).first() if is_new_run else None,
            # Its host restarts a failed run, as the answer to the failure said.
            restart=waits_to_restart(run),
            ranks=launch.ranks,
        )
        row.start, row.attempt = launch.start, lease.number
        row.started, row.folder = list(launch.started), launch.folder
        row.save(update_fields=["start", "attempt", "started", "folder"])
        run.refresh_from_db()
        return Opened(run, lease.number, is_new_run, True)


def _row_of(token: AccessToken, launch: Launch) -> tuple[RemoteLaunch, bool]:
    """Return the row of a launch, and whether it is new."""
    owned = {"project": token.project, "created_by": token.created_by}
    known = RemoteLaunch.objects.filter(key=launch.key, **owned).first()
    if known is not None:
        return known, False
    name = launch.name.strip()
    if launch.origin is None:
        run = Run.objects.create(name=name or UNNAMED, ranks=launch.ranks, restarts=launch.restarts, **owned)
    else:
        planned = Planned(name=name, ranks=launch.ranks, restarts=launch.restarts, host=launch.holder.host)
        author = Author(display_name(token.created_by), token.created_by_id)
        run = open_elsewhere(token.project, launch.origin, planned, author)
    return RemoteLaunch.objects.create(key=launch.key, run=run, **owned), True


def _check_startable(run: Run) -> None:
    """Raise `NotOpened` if the run has finished or was withdrawn, or if its present attempt still sends heartbeats."""
    if run.state == RunState.FINISHED:
        text = _("Run %(run)d has finished. Use another key to create a new run.")
        raise NotOpened(text % {"run": run.pk})
    if run.state in NOT_REQUESTED and AgentRun.objects.filter(run=run).exists():
        text = _("Run %(run)d was taken out of the queue. Press Queue or Resume on its page to start it.")
        raise NotOpened(text % {"run": run.pk})
    present = run.attempts.filter(number=run.attempt).first()
    if run.is_live and present is not None and not silent(run, timezone.now()):
        text = _("Run %(run)d still trains on %(host)s. Wait until it has ended, or stop it on its page.")
        raise NotOpened(text % {"run": run.pk, "host": present.host})
