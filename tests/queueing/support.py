"""Projects, members and waiting runs for tests of the queue."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.test import Client

from runs.commands.record import record
from runs.models import COMMAND_LINE, Command, Membership, Project, Recipe, Role, Run
from runs.protocol.commands import parse_command
from runs.recording.queue import After, enqueue, waiting_for

HOST = "gpu1"


def make_project(slug: str, *roles: Role) -> Project:
    """Return a new project with a member of each role, whose login is the role and the project: "operator-lab"."""
    project = Project.objects.create(name=slug, slug=slug)
    for role in roles:
        user = User.objects.create_user(f"{role}-{slug}")
        Membership.objects.create(project=project, user=user, role=role)
    return project


def created(project: Project, name: str = "run", **fields: object) -> Run:
    recipe, _ = Recipe.objects.get_or_create(spec="digits", title="Digits")
    return Run.objects.create(project=project, name=name, recipe=recipe, **fields)


def queued(project: Project, host: str = "", *, after: After | None = None, priority: int = 0, **fields: object) -> Run:
    run = created(project, **fields)
    enqueue(run.pk, host, after=after, priority=priority)
    run.refresh_from_db()
    return run


def ask(run: Run, kind: str, may_push: bool = False, **arguments: object) -> Command:
    """Send a command to a waiting run on the command line, and return its current row."""
    request = parse_command({"command": kind, "arguments": arguments})
    command = record(run.pk, request, author_id=None, author_name=COMMAND_LINE, may_push=may_push)
    command.refresh_from_db()
    return command


def line(host: str = HOST) -> list[int]:
    return [run.pk for run in waiting_for(host)]


def client_of(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(username=name))
    return client
