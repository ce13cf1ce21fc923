"""`manage.py run_again N`: a new run with the configuration and seed of run N, and with its interventions."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs.access.roles import COMMANDING_ROLES, display_name, role_of
from runs.branching.requests import Author, Start
from runs.models import COMMAND_LINE, Run, RunState
from runs.protocol.storable_text import option_text
from runs.recording import announcer
from runs.recording.queue import start_command
from runs.replaying.again import AgainRequest, CannotRunAgain, remarks, run_again, script_of
from steersman.exit_codes import EXIT_BAD_INPUT

FLUSH_TIMEOUT_S = 2.0
# The options that stand for fields of a request.
OPTIONS = {"source": "--of", "start": "--queue", "interventions": "--without-interventions"}


class Command(BaseCommand):
    help = (
        "Create a run with the configuration and seed of run N, and send it the commands that run N applied, for "
        "the same steps. The new run starts paused, and resumes by itself once it has received all of them. The "
        "output begins with what cannot be repeated. "
        "Exit code 2: bad input."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run", type=int, help="the number of the run to repeat")
        parser.add_argument(
            "--without-interventions", action="store_true", help="repeat only the configuration, without the commands"
        )
        parser.add_argument(
            "--of",
            type=int,
            metavar="M",
            help="if run N is a branch: begin at the checkpoint of run M, which repeats the source of run N",
        )
        parser.add_argument("--name", type=option_text, default="", help="name of the new run")
        parser.add_argument("--user", type=option_text, default="", metavar="USERNAME", help="an operator or owner")
        parser.add_argument("--queue", action="store_true", help="queue the new run; manage.py watch starts it")
        output = parser.add_mutually_exclusive_group()
        output.add_argument("--quiet", action="store_true", help="print only the number of the new run")
        output.add_argument("--json", action="store_true", help="print number, state and remarks as JSON")

    def handle(self, **options: Any) -> None:
        old = _find_run(options["run"], "run")
        source = _find_run(options["of"], "--of") if options["of"] is not None else None
        author = _author(old, source, options["user"])
        told = remarks(old) if not options["without_interventions"] else []
        asked = AgainRequest(
            name=options["name"],
            with_interventions=not options["without_interventions"],
            start=Start.QUEUE if options["queue"] else Start.NO,
            source=source,
        )
        try:
            run, _is_new = run_again(old, asked, author)
        except CannotRunAgain as error:
            _refuse(f"{OPTIONS.get(error.field, error.field)}: {error}")
        finally:
            announcer.current().flush(FLUSH_TIMEOUT_S)
        if options["json"]:
            self.stdout.write(json.dumps({"run": run.pk, "name": run.name, "state": run.state, "remarks": told}))
            return
        for sentence in told:
            self.stderr.write(sentence)
        if options["quiet"]:
            self.stdout.write(str(run.pk))
            return
        state = "queued" if run.state == RunState.QUEUED else "recorded"
        self.stdout.write(f"Run {run.pk} ({run.name}) is {state}: it repeats run {old.pk}.")
        if run.state == RunState.CREATED:
            self.stdout.write(f"Start the run with: {start_command(run, script_of(old))}")


def _find_run(pk: int, field: str) -> Run:
    run = Run.objects.select_related("project", "recipe").filter(pk=pk).first()
    if run is None:
        _refuse(f"{field}: there is no run {pk}; give the number in the address of its page.")
    return run


def _author(old: Run, source: Run | None, name: str) -> Author:
    """Return the author: the member that `--user` names, otherwise the command line."""
    if not name:
        return Author(COMMAND_LINE)
    user = User.objects.filter(username=name, is_active=True).first()
    if user is None:
        _refuse(f"--user: there is no active user {name}; the admin lists all users.")
    for run in (old, source):
        if run is not None and role_of(user, run) not in COMMANDING_ROLES:
            _refuse(f"--user: {name} may not command run {run.pk}: only operators and owners of its project may.")
    return Author(display_name(user), user.pk)


def _refuse(sentence: str) -> NoReturn:
    raise CommandError(sentence, returncode=EXIT_BAD_INPUT)
