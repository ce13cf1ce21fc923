"""`manage.py command RUN WORDS`: send a command to a run from a terminal."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, NoReturn

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter

from runs.access.roles import COMMANDING_ROLES, display_name, role_of
from runs.commands.record import NotAllowed, record
from runs.commands.texts import commands_as_wire, list_in_words, outcome_in_words
from runs.commands.typed import parse_words, value_from_text
from runs.models import COMMAND_LINE, CommandState, Run, as_wire
from runs.models import Command as Row
from runs.protocol.commands import AT_FIELDS, COMMANDS, InvalidCommand, parse_command
from runs.protocol.storable_text import option_text
from runs.recording import announcer
from runs.replaying.ledger import ledger_of
from runs.replaying.repeatable import cannot_repeat
from runs.replaying.replay import CannotReplay, differences, replay
from steersman.exit_codes import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_NO_OUTCOME

POLL_INTERVAL_S = 0.1
FLUSH_TIMEOUT_S = 2.0
OPEN = (CommandState.SENT, CommandState.DELIVERED)
NOT_LOOKING = (
    "The training does not read run.stopping, so commands wait. `manage.py command {run} end_process` ends its process."
)
# The options for the fields of a command.
OPTIONS = {
    "id": "--id",
    "reason": "--reason",
    "expires_in_s": "--expires",
    "at": "--at-step, --at-epoch, --at-roll-backs",
    "expect": "--expect-state, --expect-value",
}
EXAMPLES = """
examples:
  command 7 --list
  command 7 set_knob learning_rate=0.001 --reason "it oscillates" --wait 10
  command 7 set_knob learning_rate*=0.5 --at-step 2000
  command 7 stop --at-epoch 5
  command 7 note "the learning rate looks high"
  command 9 --replay 7
"""


class KeepsLines(DjangoHelpFormatter):
    """Keeps the line breaks of texts."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class Command(BaseCommand):
    help = (
        f"Send a command to a run: {', '.join(COMMANDS)}. "
        "Exit codes: 0 done (without --wait: recorded), 1 refused or expired, 2 bad input, 3 no outcome within --wait."
    )
    # The checks would load every page and the API to write one row.
    requires_system_checks: list[str] = []

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, epilog=EXAMPLES, formatter_class=KeepsLines, **options)

    def add_arguments(self, parser: CommandParser) -> None:
        # Options may stand between the run and the words.
        parser.parse_args = _intermixed(parser)  # type: ignore[method-assign]
        parser.add_argument("run", type=int, help="the number of the run")
        parser.add_argument("words", nargs="*", help="the command and its arguments, as name=value")
        parser.add_argument(
            "--list",
            action="store_true",
            help="list the commands that the run accepts now, why it refuses the others, and its knobs",
        )
        parser.add_argument(
            "--replay",
            type=int,
            metavar="OLD",
            help="repeat the commands of run OLD, at the same steps",
        )
        parser.add_argument("--reason", default="", help="reason, visible to everybody who can see the run")
        parser.add_argument("--at-step", type=int, metavar="N", help="take effect once step N is done")
        parser.add_argument("--at-epoch", type=int, metavar="N", help="take effect once epoch N is done")
        parser.add_argument(
            "--at-roll-backs",
            type=int,
            metavar="N",
            help="with --at-step or --at-epoch: take effect there only after exactly N rollbacks of the run",
        )
        parser.add_argument("--expires", type=float, metavar="SECONDS", help="let the command expire after this time")
        parser.add_argument(
            "--expect-state", default="", metavar="STATE", help="refuse the command if the run is in another state"
        )
        parser.add_argument("--expect-value", metavar="VALUE", help="refuse the command if the knob has another value")
        parser.add_argument(
            "--id",
            default="",
            metavar="UUID",
            help="idempotency key: a second call with this id sends no second command",
        )
        parser.add_argument(
            "--user",
            type=option_text,
            default="",
            metavar="USERNAME",
            help="the author of the command, who must be an operator or owner",
        )
        parser.add_argument("--wait", type=float, metavar="SECONDS", help="wait for the outcome")
        parser.add_argument("--json", action="store_true", help="print the JSON of the API")

    def handle(self, **options: Any) -> None:
        try:
            code = self._do(options)
        finally:
            announcer.current().flush(FLUSH_TIMEOUT_S)
        if code:
            sys.exit(code)

    def _do(self, options: dict[str, Any]) -> int:
        run = _find_run(options["run"], "run")
        if options["list"]:
            self._list(run, options["json"])
            return 0
        author_id, author_name = _author(run, options["user"])
        if options["replay"] is not None:
            if options["words"]:
                _refuse("--replay cannot be combined with a command: leave one of them out.")
            return self._replay(run, options, author_id, author_name)
        try:
            request = parse_command(_payload(run, options))
            row = record(run.pk, request, author_id=author_id, author_name=author_name, may_push=author_id is None)
        except (InvalidCommand, NotAllowed) as error:
            option = OPTIONS.get(error.field)
            _refuse(f"{option}: {error}" if option else str(error))
        row.refresh_from_db()
        if options["wait"] is not None:
            _wait(row, options["wait"])
        self.stdout.write(json.dumps(as_wire(row)) if options["json"] else outcome_in_words(row))
        if row.state in OPEN and Run.objects.exclude(not_looking_since=None).filter(pk=run.pk).exists():
            self.stderr.write(NOT_LOOKING.format(run=run.pk))
        if row.state in (CommandState.REFUSED, CommandState.EXPIRED):
            return EXIT_FAILED
        return EXIT_NO_OUTCOME if options["wait"] is not None and row.state in OPEN else 0

    def _list(self, run: Run, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps({"run": run.pk, "commands": commands_as_wire(run), "knobs": run.knobs}))
            return
        for line in list_in_words(run):
            self.stdout.write(line)

    def _replay(self, new: Run, options: dict[str, Any], author_id: int | None, author_name: str) -> int:
        old = _find_run(options["replay"], "--replay")
        differing = differences(old, new)
        if differing:
            names = ", ".join(differing)
            self.stderr.write(f"Run {old.pk} and run {new.pk} differ in {names}: their curves will differ too.")
        for sentence in cannot_repeat(old, ledger_of(old)):
            self.stderr.write(sentence)
        try:
            rows = replay(old, new, author_id=author_id, author_name=author_name)
        except (CannotReplay, NotAllowed, InvalidCommand) as error:
            _refuse(f"--replay: {error}")
        for row in rows:
            row.refresh_from_db()
        if options["json"]:
            self.stdout.write(json.dumps([as_wire(row) for row in rows]))
        else:
            count = "1 command was" if len(rows) == 1 else f"{len(rows)} commands were"
            self.stdout.write(f"{count} sent from run {old.pk} to run {new.pk}.")
            for row in rows:
                self.stdout.write(f"  {outcome_in_words(row)}")
        return EXIT_FAILED if any(row.state not in (*OPEN, CommandState.APPLIED) for row in rows) else 0


def _intermixed(parser: CommandParser) -> Any:
    def parse_args(args: Sequence[str] | None = None, namespace: Namespace | None = None) -> Namespace:
        return parser.parse_intermixed_args(args, namespace)

    return parse_args


def _payload(run: Run, options: dict[str, Any]) -> dict[str, Any]:
    """Return the words and options as the object that page and API send. Raises `InvalidCommand`."""
    knobs = run.knob_specs
    payload = parse_words(options["words"], knobs)
    expect = {}
    if options["expect_state"]:
        expect["state"] = options["expect_state"]
    if options["expect_value"] is not None:
        knob = payload.get("arguments", {}).get("knob", "")
        expect["value"] = value_from_text(options["expect_value"], knobs.get(knob))
    at = {name: options[f"at_{name}"] for name in AT_FIELDS if options[f"at_{name}"] is not None}
    given = {"id": options["id"], "reason": options["reason"], "expires_in_s": options["expires"]}
    return payload | {name: value for name, value in given.items() if value not in ("", None)} | {
        "expect": expect, "at": at
    }  # fmt: skip


def _find_run(pk: int, field: str) -> Run:
    run = Run.objects.select_related("project").filter(pk=pk).first()
    if run is None:
        _refuse(f"{field}: there is no run {pk}; give the number in the address of its page.")
    return run


def _author(run: Run, name: str) -> tuple[int | None, str]:
    """Return the author: the member named by `--user`, otherwise the command line."""
    if not name:
        return None, COMMAND_LINE
    user = User.objects.filter(username=name, is_active=True).first()
    if user is None:
        _refuse(f"--user: there is no active user {name}; the admin lists all users.")
    role = role_of(user, run)
    if role not in COMMANDING_ROLES:
        found = f"is a {role}" if role else "is not a member"
        _refuse(f"--user: {name} {found} of {run.project.slug}, but only operators and owners may send commands.")
    return user.pk, display_name(user)


def _wait(row: Row, seconds: float) -> None:
    """Wait until a command has its outcome, for at most this many seconds."""
    until = time.monotonic() + seconds
    while row.state in OPEN and time.monotonic() < until:
        time.sleep(POLL_INTERVAL_S)
        row.refresh_from_db()


def _refuse(sentence: str) -> NoReturn:
    raise CommandError(sentence, returncode=EXIT_BAD_INPUT)
