"""`manage.py branch N`: a new run from a checkpoint of run N, with changed parameters and knobs."""

from __future__ import annotations

import argparse
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, NoReturn
from uuid import UUID

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs.access.roles import COMMANDING_ROLES, display_name, role_of
from runs.branching.changes import knob_specs_of
from runs.branching.family import branch_of
from runs.branching.opening import open_branch
from runs.branching.requests import Author, BranchRequest, CannotBranch, Start
from runs.models import COMMAND_LINE, Branch, Run, RunState
from runs.protocol.storable_text import option_text
from runs.recording import announcer
from runs.recording.queue import start_command
from steersman.exit_codes import EXIT_BAD_INPUT
from trainer.control.lease import CannotTrain
from trainer.control.train_command import Options, train

FLUSH_TIMEOUT_S = 2.0
# The options for the fields of a request.
OPTIONS = {"checkpoint": "from", "parameters": "set", "knobs": "knob", "start": "queue"}


class Command(BaseCommand):
    help = (
        "Open a new run at a checkpoint of run N, with changed parameters and knobs; run N continues. --start trains "
        "the new run here at once; put a script of your own after --. Exit codes: 2 for bad input; with --start, those "
        "of train."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run", type=int, help="the number of the run to branch from")
        parser.add_argument(
            "--from",
            dest="checkpoint",
            type=option_text,
            default="newest",
            metavar="CHECKPOINT",
            help="the checkpoint to begin at: newest (default), best, or its id, name or step",
        )
        parser.add_argument(
            "--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter to change, repeatable"
        )
        parser.add_argument(
            "--knob",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="a knob to change, repeatable; for one parameter group: NAME/GROUP=VALUE",
        )
        parser.add_argument("--name", type=option_text, default="", help="name of the branch")
        parser.add_argument(
            "--reason", type=option_text, default="", help="the reason, for the command logs of both runs"
        )
        parser.add_argument("--user", type=option_text, default="", metavar="USERNAME", help="an operator or owner")
        parser.add_argument(
            "--id",
            type=_uuid,
            metavar="UUID",
            help="idempotency key: a second call with this id opens no second branch",
        )
        start = parser.add_mutually_exclusive_group()
        start.add_argument("--queue", action="store_true", help="queue the branch; manage.py watch starts it")
        start.add_argument(
            "--start", action="store_true", help="train the branch here at once, as manage.py train does"
        )
        output = parser.add_mutually_exclusive_group()
        output.add_argument("--quiet", action="store_true", help="print only the number of the branch")
        output.add_argument("--json", action="store_true", help="print the branch as JSON")
        parser.usage = f"{parser.prog} RUN [options] [-- SCRIPT [ARGUMENTS]]"
        parser.parse_args = _with_script(parser)  # type: ignore[method-assign]

    def handle(self, **options: Any) -> None:
        source = Run.objects.select_related("project", "recipe").filter(pk=options["run"]).first()
        if source is None:
            _refuse(f"run: there is no run {options['run']}; give the number in the address of its page.")
        if options["script"] and not options["start"]:
            _refuse("script: only valid with --start; without it, the output shows how to start the branch.")
        if options["start"] and source.recipe is None and not options["script"]:
            _refuse(
                f"start: run {source.pk} trains your own script: name it, as in branch {source.pk} --start -- train.py"
            )
        author = _author(source, options["user"])
        try:
            run, _ = open_branch(source, _request(source, options), author)
        except CannotBranch as error:
            field, _, name = error.field.partition(".")
            option = OPTIONS.get(field, field)
            sentence = str(error)
            _refuse(sentence if name and sentence.startswith(name) else f"{option}: {sentence}")
        finally:
            announcer.current().flush(FLUSH_TIMEOUT_S)
        self._print(run, options)
        if options["start"]:
            _train(run, tuple(options["script"]), quiet=options["quiet"] or options["json"])

    def _print(self, run: Run, options: dict[str, Any]) -> None:
        branch = branch_of(run)
        assert branch is not None
        if options["quiet"]:
            self.stdout.write(str(run.pk))
        elif options["json"]:
            self.stdout.write(json.dumps(branch.as_wire()))
        else:
            self.stdout.write(_sentence(run, branch))
            for change in branch.changes.all():
                self.stdout.write(f"  {change.kind} {change}: {json.dumps(change.old)} → {json.dumps(change.new)}")
            if run.state == RunState.CREATED and not options["start"]:
                self.stdout.write(f"Start the run with: {start_command(run)}")
        self.stdout.flush()


def _with_script(parser: CommandParser) -> Any:
    """Return a `parse_args` that takes everything after -- as the script; options may come before it."""
    parse_args = parser.parse_args

    def parse(args: Sequence[str] | None = None, namespace: Namespace | None = None) -> Namespace:
        words = list(sys.argv[2:] if args is None else args)
        end = words.index("--") if "--" in words else len(words)
        found: Namespace = parse_args(words[:end], namespace)
        found.script = words[end + 1 :]
        return found

    return parse


def _sentence(run: Run, branch: Branch) -> str:
    state = "queued" if run.state == RunState.QUEUED else "recorded"
    return (
        f"Run {run.pk} ({run.name}) is {state}: a branch of run {branch.source_number} from the checkpoint "
        f"{branch.checkpoint_name} at step {branch.step}."
    )


def _request(source: Run, options: dict[str, Any]) -> BranchRequest:
    given = {"id": options["id"]} if options["id"] is not None else {}
    return BranchRequest(
        checkpoint=options["checkpoint"],
        name=options["name"],
        parameters=dict(_pairs(options["set"], "set")),
        knobs=_knobs(source, _pairs(options["knob"], "knob")),
        start=Start.QUEUE if options["queue"] else Start.NO,
        reason=options["reason"],
        **given,
    )


def _pairs(texts: list[str], option: str) -> list[tuple[str, str]]:
    found = []
    for text in texts:
        name, mark, value = text.partition("=")
        if not mark or not name:
            _refuse(f"{option}: {text!r} has no value; give it as --{option} name=value.")
        found.append((name, value))
    return found


def _knobs(source: Run, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the values by knob; by group if a group is named, and no knob has that whole name."""
    known = knob_specs_of(source)
    knobs: dict[str, Any] = {}
    for name, value in pairs:
        knob, slash, group = name.rpartition("/")
        if name in known or not slash:
            knobs[name] = value
        else:
            by_group = knobs.setdefault(knob, {})
            if not isinstance(by_group, dict):
                _refuse(f"knob: {knob} is given both for all parameter groups and for {group}; give one of them.")
            by_group[group] = value
    return knobs


def _author(run: Run, name: str) -> Author:
    """Return the author of the branch: the named member, else the user of this shell."""
    if not name:
        return Author(COMMAND_LINE)
    user = User.objects.filter(username=name, is_active=True).first()
    if user is None:
        _refuse(f"user: there is no active user {name}; the admin lists all users.")
    role = role_of(user, run)
    if role not in COMMANDING_ROLES:
        found = f"is a {role}" if role else "is not a member"
        _refuse(f"user: {name} {found} of {run.project.slug}: only operators and owners may branch its runs.")
    return Author(display_name(user), user.pk)


def _train(run: Run, script: tuple[str, ...], *, quiet: bool) -> None:
    try:
        code = train(Options(run_id=run.pk, script=script, quiet=quiet))
    except CannotTrain as error:
        raise CommandError(str(error), returncode=error.exit_code) from error
    if code:
        sys.exit(code)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"give a UUID, not {text!r}") from error


def _refuse(sentence: str) -> NoReturn:
    raise CommandError(sentence, returncode=EXIT_BAD_INPUT)
