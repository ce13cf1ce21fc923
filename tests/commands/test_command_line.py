"""`manage.py command`: what a person types, who the author is, the output, and the exit codes."""

from __future__ import annotations

import json
import re
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.management import ManagementUtility
from django.core.management.base import CommandError
from django.utils import timezone

from runs.management.commands.command import Command as Typed
from runs.models import Attempt, Command, CommandState, Membership, Project, Run, RunState, as_wire
from runs.protocol.commands import COMMANDS, OfQueue
from runs.protocol.events import CommandChanged
from runs.recording import feed
from runs.recording.lifecycle import Holder, complete_command, open_attempt
from steersman.knobs import Knob
from steersman.spec import ValueSpec
from tests.support.stored_points import checkpoint_event

pytestmark = pytest.mark.django_db
RATE = ValueSpec("rate", "float", 1e-6, 1.0, scale="log", unit="1/step", help="How far a step goes.")
OF_QUEUE = {kind for kind, command in COMMANDS.items() if issubclass(command, OfQueue)}
BITS = ValueSpec("bits", "choice", choices=("8", "16"))


class NoLayer:
    def flush(self, timeout_s: float) -> None: ...

    def send(self, group: str, message: dict[str, Any]) -> None: ...


@pytest.fixture(autouse=True)
def no_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runs.recording.announcer.current", NoLayer)


@pytest.fixture
def run() -> Run:
    project = Project.objects.create(name="Lab", slug="lab")
    for role in ("viewer", "operator"):
        user = User.objects.create(username=role, first_name=role.title())
        Membership.objects.create(project=project, user=user, role=role)
    User.objects.create(username="stranger")
    run = Run.objects.create(project=project, name="first")
    open_attempt(run.pk, Holder("h", "b", 1), 0, command_line=[])
    knobs = [Knob(RATE, 0.25, effective=lambda: 0.125).to_wire(), Knob(BITS, "8").to_wire()]
    Run.objects.filter(pk=run.pk).update(
        knobs=knobs, step=10, handled_commands=["evaluate", "extend", "roll_back", "save_checkpoint"]
    )
    run.refresh_from_db()
    return run


def typed(*words: str) -> tuple[int, str]:
    """Run `manage.py command` with these words; return its exit code and output."""
    out = StringIO()
    command = Typed(stdout=out, stderr=out, no_color=True)
    parser = command.create_parser("manage.py", "command")
    parser.called_from_command_line = True
    try:
        options = vars(parser.parse_args(list(words)))
        command.execute(**options)
    except CommandError as error:
        return error.returncode, str(error)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


def test_it_asks_what_was_typed(run: Run) -> None:
    code, said = typed(
        str(run.pk), "--reason", "it oscillates", "set_knob", "rate=0.5", "--at-step", "20", "--expires", "60",
        "--expect-state", "running", "--expect-value", "0.25",
    )  # fmt: skip
    row = Command.objects.get()
    assert code == 0 and said == f"set_knob {row.pk}: sent, to take effect at step 20.\n"
    assert (row.arguments["knob"], row.arguments["value"], row.reason) == ("rate", 0.5, "it oscillates")
    assert (row.at_step, row.expected_state, row.expected_value) == (20, "running", 0.25)
    assert row.expires_at is not None and (row.author_id, row.author_name) == (None, "the command line")


def test_a_knob_takes_what_is_typed_in_its_own_type(run: Run) -> None:
    typed(str(run.pk), "set_knob", "bits=16", "--expect-value", "8")
    row = Command.objects.get()
    assert (row.state, row.arguments["value"], row.expected_value) == (CommandState.SENT, "16", "8")


def test_its_author_is_the_member_who_is_named(run: Run) -> None:
    assert typed(str(run.pk), "pause", "--user", "operator")[0] == 0
    row = Command.objects.get()
    assert row.author is not None and (row.author.username, row.author_name) == ("operator", "Operator")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["999", "stop"], "run: there is no run 999; give the number in the address of its page."),
        (
            ["RUN", "stop", "--user", "viewer"],
            "--user: viewer is a viewer of lab, but only operators and owners may send commands.",
        ),
        (["RUN", "stop", "--user", "stranger"], "--user: stranger is not a member of lab"),
        (["RUN", "stop", "--user", "nobody"], "--user: there is no active user nobody; the admin lists all users."),
        (["RUN"], "Name a command: cancel, end_process, evaluate"),
        (["RUN", "dance"], "There is no such command"),
        (["RUN", "set_knob", "rate"], "rate: write name=value."),
        (
            ["RUN", "stop", "--at-step", "0"],
            "--at-step, --at-epoch, --at-roll-backs: Give at.step as a whole number from 1",
        ),
        (["RUN", "stop", "--at-roll-backs", "1"], '--at-step, --at-epoch, --at-roll-backs: Give "at" as an object'),
        (["RUN", "stop", "--expires", "-5"], "--expires: Give expires_in_s as a number of seconds above 0"),
        (["RUN", "stop", "--expires", "soon"], "argument --expires: invalid float value"),
        (["RUN", "stop", "--expect-state", "asleep"], "--expect-state, --expect-value: expect: state must be one of"),
        (["RUN", "stop", "--id", "x"], "--id: Give id as a UUID"),
        (["RUN", "resume", "--replay", "999"], "--replay cannot be combined with a command: leave one of them out."),
        (["RUN", "--replay", "999"], "--replay: there is no run 999; give the number in the address of its page."),
    ],
)
def test_bad_input_ends_with_2_and_a_sentence(run: Run, words: list[str], sentence: str, capsys: Any) -> None:
    code, said = typed(*[str(run.pk) if word == "RUN" else word for word in words])
    said += capsys.readouterr().err
    assert code == 2 and sentence in said and "Traceback" not in said
    assert not Command.objects.exists()


def test_it_says_that_a_command_is_refused_and_why(run: Run) -> None:
    code, said = typed(str(run.pk), "set_knob", "rate=7")
    assert code == 1 and said.endswith(": refused. rate takes a number from 0.000001 to 1, not 7.\n")


def test_it_waits_for_the_outcome(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def apply(seconds: float) -> None:
        row = Command.objects.get()
        complete_command(row, CommandState.APPLIED, step=11, old=0.25, new=0.5, effective=0.125, ranks=2)

    monkeypatch.setattr("runs.management.commands.command.time.sleep", apply)
    code, said = typed(str(run.pk), "set_knob", "rate*=2", "--wait", "30")
    assert code == 0 and said.endswith(": applied at step 11 by 2 ranks: 0.25 → 0.5 (in effect 0.125).\n")


def test_an_expiry_ends_with_1_and_no_outcome_with_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed(str(run.pk), "pause", "--wait", "0")[0] == 3

    def expire(seconds: float) -> None:
        complete_command(Command.objects.get(kind="evaluate"), CommandState.EXPIRED, outcome="Too late.")

    monkeypatch.setattr("runs.management.commands.command.time.sleep", expire)
    code, said = typed(str(run.pk), "evaluate", "--wait", "30")
    assert code == 1 and said.endswith(": expired. Too late.\n")


def test_the_same_id_again_is_the_same_command(run: Run) -> None:
    key = str(uuid4())
    answers = {typed(str(run.pk), "stop", "--id", key) for _ in range(3)}
    assert len(answers) == 1 and Command.objects.count() == 1
    other = Run.objects.create(project=run.project, name="other", state=RunState.RUNNING)
    code, said = typed(str(other.pk), "stop", "--id", key)
    assert code == 2 and said.startswith("--id: This id belongs to a command of another run")


def test_it_prints_json_as_the_api_gives_it(run: Run) -> None:
    code, said = typed(str(run.pk), "note", "high", "at", "night", "--json")
    assert code == 0 and json.loads(said) == as_wire(Command.objects.get())
    assert json.loads(said)["arguments"] == {"text": "high at night"}


def test_it_lists_commands_with_what_they_take_and_knobs_with_where_they_stand(run: Run) -> None:
    # The requests wait, so the command offers to end the process too.
    Run.objects.filter(pk=run.pk).update(not_looking_since=timezone.now())
    code, said = typed(str(run.pk), "--list")
    assert code == 0 and f"Run {run.pk} (first) is running at step 10." in said
    offered, refused = said.split("Not now:")
    for kind, command in COMMANDS.items():
        if kind in OF_QUEUE:
            assert re.search(
                rf"^  {kind} +The run is running: the command needs a run that is queued\.$", refused, re.MULTILINE
            )
        else:
            assert re.search(rf"^  {kind} +{re.escape(command.help)}$", offered, re.MULTILINE)
    assert "epochs=a whole number from 1 to 100000" in said and "checkpoint=true or false (default true)" in said
    assert re.search(r"rate +0\.25 \(in effect 0\.125\); takes a number from 0\.000001 to 1 1/step\. How far", said)
    assert re.search(r"bits +8; takes one of 8, 16\.", said)
    listed = json.loads(typed(str(run.pk), "--list", "--json")[1])
    assert {entry["command"] for entry in listed["commands"]} == set(COMMANDS) - OF_QUEUE and len(listed["knobs"]) == 2
    Run.objects.filter(pk=run.pk).update(knobs=[])
    assert "Knobs: none yet" in typed(str(run.pk), "--list")[1]


def test_it_promises_no_checkpoint_of_a_script_that_has_not_said_how_it_saves_one(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(recipe=None, handled_commands=[])
    said = typed(str(run.pk), "--list")[1]
    assert re.search(r"^  stop +Finish the current step and end\. The script decides", said, re.MULTILINE)
    assert re.search(r"^  save_checkpoint +This training cannot save a checkpoint on command", said, re.MULTILINE)
    listed = json.loads(typed(str(run.pk), "--list", "--json")[1])["commands"]
    [stop] = [entry for entry in listed if entry["command"] == "stop"]
    assert "The script decides" in stop["help"]
    Run.objects.filter(pk=run.pk).update(state="queued")
    said = typed(str(run.pk), "--list")[1]
    assert re.search(r"^  withdraw +Take the run out", said.partition("Not now:")[0], re.MULTILINE)
    Run.objects.filter(pk=run.pk).update(state="finished")
    refused = typed(str(run.pk), "--list")[1].partition("Not now:")[2]
    assert re.search(r"^  extend +Only a recipe can be extended", refused, re.MULTILINE)
    assert re.search(
        r"^  pause +The run is finished: the command needs a run that is paused or running\.", refused, re.MULTILINE
    )


def test_its_help_shows_examples_line_by_line(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        ManagementUtility(["manage.py", "command", "--help"]).execute()
    assert "\n  command 7 set_knob learning_rate*=0.5 --at-step 2000\n" in capsys.readouterr().out


def applied(run: Run, kind: str, step: int, attempt: int | None = 1, **arguments: Any) -> Command:
    """Create a command of `run` in its applied state, with its event."""
    now = timezone.now()
    row = Command.objects.create(
        run=run, kind=kind, arguments=arguments, author_name="Ada", sent_at=now, applied_at=now, step=step,
        attempt=attempt, state=CommandState.APPLIED, new_value=arguments.get("value"),
    )  # fmt: skip
    feed.append(run.pk, CommandChanged(**as_wire(row)))
    return row


def next_attempt(run: Run, number: int, resumed_step: int | None) -> None:
    Attempt.objects.create(run=run, number=number, host="h", boot_id="b", supervisor_pid=1, resumed_step=resumed_step)


def saved(run: Run, attempt: int, step: int) -> None:
    feed.append(run.pk, checkpoint_event(step, attempt))


@pytest.fixture
def new(run: Run) -> Run:
    return Run.objects.create(
        project=run.project,
        name="new",
        state=RunState.PAUSED,
        is_paused=True,
        attempt=1,
        handled_commands=["evaluate", "extend", "roll_back", "save_checkpoint"],
    )


def test_it_asks_of_a_new_run_what_was_applied_to_the_old(run: Run, new: Run) -> None:
    applied(run, "set_knob", 0, knob="rate", value=0.5, factor=None, group="")
    applied(run, "set_knob", 40, knob="rate", value=None, factor=0.5, group="")
    applied(run, "pause", 41)
    applied(run, "extend", 60, epochs=3)
    applied(run, "stop", 99)
    complete_command(applied(run, "evaluate", 50), CommandState.REFUSED)
    refused = Command.objects.create(run=run, kind="set_knob", author_name="A", sent_at=timezone.now(), step=45)
    complete_command(refused, CommandState.REFUSED, step=45)
    code, said = typed(str(new.pk), "--replay", str(run.pk), "--user", "operator")
    assert code == 0 and "The run trains its own script: the script must seed its random numbers" in said
    assert f"\n4 commands were sent from run {run.pk} to run {new.pk}." in said
    rows = [(row.kind, row.at_step, row.arguments.get("factor")) for row in new.commands.order_by("sent_at")]
    assert rows == [
        ("set_knob", None, None), ("set_knob", 40, 0.5), ("extend", 60, None), ("evaluate", 50, None),
    ]  # fmt: skip
    first = new.commands.order_by("sent_at")[0]
    assert first.author_name == "Operator" and first.reason == f"Replay of run {run.pk}."
    assert typed(str(new.pk), "--replay", str(run.pk))[0] == 0
    assert new.commands.count() == 4


def test_what_a_later_attempt_went_over_is_not_replayed(run: Run, new: Run) -> None:
    """It resumes from a checkpoint: what came after that, or at its step but behind it, is not in the curve. The last
    value of the knob is."""
    applied(run, "set_knob", 5, knob="rate", value=0.5)
    before = applied(run, "set_knob", 20, knob="rate", value=0.6)
    saved(run, attempt=1, step=20)
    # The effective value is corrected a step later.
    feed.append(run.pk, CommandChanged(**as_wire(before)))
    applied(run, "set_knob", 20, knob="rate", value=0.7)
    applied(run, "set_knob", 30, knob="rate", value=0.8)
    next_attempt(run, 2, resumed_step=20)
    applied(run, "set_knob", 25, attempt=2, knob="rate", value=0.9)
    applied(run, "note", 25, attempt=None, text="at rest")
    typed(str(new.pk), "--replay", str(run.pk))
    asked = [row.arguments.get("value") for row in new.commands.filter(kind="set_knob").order_by("sent_at")]
    assert asked == [0.5, 0.6, 0.8, 0.9] and new.commands.filter(kind="note").count() == 1
    next_attempt(run, 3, resumed_step=None)
    new.commands.all().delete()
    typed(str(new.pk), "--replay", str(run.pk))
    assert not new.commands.filter(kind="set_knob").exists()


def test_a_replay_needs_a_run_that_is_not_past_the_first_change(run: Run, new: Run) -> None:
    applied(run, "set_knob", 0, knob="rate", value=0.5)
    for state, step, sentence in (
        ("created", 0, "was started paused"), ("running", 0, "Use a run that was started paused"),
        ("paused", 3, "the first change takes effect right after step 0"),
    ):  # fmt: skip
        Run.objects.filter(pk=new.pk).update(state=state, step=step)
        code, said = typed(str(new.pk), "--replay", str(run.pk))
        assert code == 2 and sentence in said
    assert not new.commands.exists()


def test_a_replay_says_what_will_make_the_curves_differ(run: Run, new: Run) -> None:
    Run.objects.filter(pk=new.pk).update(seed=7, parameters={"epochs": 3})
    code, said = typed(str(new.pk), "--replay", str(run.pk))
    assert code == 0 and "differ in parameters, seed: their curves will differ too." in said
