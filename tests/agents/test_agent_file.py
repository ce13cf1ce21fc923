"""`agent.toml`: each error names the field and the remedy, `--check` prints it, and values become single words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from steersman.agent.on_request.agent_file import BadFile, read_offer
from steersman.agent.on_request.offered import NotOffered, Offer, started_by
from tests.support.stack import ROOT

GOOD = """
slots = 2
[commands.resnet]
title = "ResNet on ImageNet"
program = ["python", "train.py", "--epochs", "{epochs}", "--lr={rate}", "{tag}", "{literal braces}"]
environment = { MODE = "{mode}", FAST = "is {fast}" }
processes = 2
[commands.resnet.parameters]
epochs = { kind = "int", minimum = 1, maximum = 300, default = 90 }
rate = { kind = "float", minimum = 0.0, unit = "1/step", default = 1e-3 }
tag = { kind = "str", default = "" }
mode = { kind = "choice", choices = ["slow", "quick"], default = "slow" }
fast = { kind = "bool", default = false }
"""
SHORT = '[commands.x]\nprogram = ["x"]\n'
A, AT = SHORT + "parameters.a", "commands.x.parameters.a"


def offer_in(folder: Path, text: str) -> Offer:
    (folder / "agent.toml").write_text(text)
    return read_offer(folder / "agent.toml", "gpu7", lambda: ["GPU-a", "GPU-b"])


def test_each_value_is_one_word_or_one_variable(tmp_path: Path):
    command = offer_in(tmp_path, GOOD).commands["resnet"]
    hostile = "a b; rm -rf / `x` $(y) '{epochs}'"
    started = started_by(command, {"epochs": "5", "tag": hostile, "mode": "quick", "fast": True})
    assert started.program == [
        "python", "train.py", "--epochs", "5", "--lr=0.001", hostile, "{literal braces}",
    ]  # fmt: skip
    assert started.environment == {"MODE": "quick", "FAST": "is true"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epochs": 301}, "epochs takes a whole number from 1 to 300, not 301."),
        ({"mode": "other"}, "mode takes one of slow, quick"),
        ({"tag": "--config=/etc/passwd"}, "tag must not begin with -"),
        ({"tag": "a\0b"}, "tag contains an invalid character"),
        ({"program": "bash"}, "program: there is no such parameter"),
    ],
)
def test_a_value_that_is_not_declared_starts_nothing(tmp_path: Path, given: dict[str, object], words: str):
    command = offer_in(tmp_path, GOOD).commands["resnet"]
    with pytest.raises(NotOffered, match=words.replace("(", r"\(")):
        started_by(command, given)  # type: ignore[arg-type]


def test_slots_are_a_number_or_gpus(tmp_path: Path):
    offer = offer_in(tmp_path, 'gpus = "all"\n' + SHORT + "gpus = 2\n")
    assert (offer.name, offer.slots, offer.gpus, offer.commands["x"].slots) == ("gpu7", 2, ["GPU-a", "GPU-b"], 2)
    assert offer_in(tmp_path, "gpus = [0, 1, 3]\n" + SHORT).gpus == ["0", "1", "3"]
    offer = offer_in(tmp_path, 'name = "login-1"\n' + SHORT)
    assert (offer.name, offer.slots, offer.commands["x"].title) == ("login-1", 1, "x")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "commands: list at least one command"),
        ("a = ", "the file is not TOML"),
        ("slot = 1\n" + SHORT, "slot: there is no such field; choose one of: name, slots"),
        ("slots = 0\n" + SHORT, "slots: give a whole number from 1 to 1000, not 0."),
        ("slots = true\n" + SHORT, "slots: give a whole number"),
        ('name = "a b"\n' + SHORT, "name: give letters, digits, dots"),
        ('gpus = [0, 0]\n' + SHORT, 'gpus: give "all", or a list of different GPUs'),
        ('gpus = "some"\n' + SHORT, 'gpus: give "all"'),
        ("gpus = [0]\nslots = 2\n" + SHORT, "slots: an agent with gpus has one slot for each GPU"),
        ("commands = 3", "commands: list at least one command"),
        ("[commands.x]\n", "commands.x.program is missing: give a list of words"),
        ('[commands.x]\nprogram = "python train.py"\n', "commands.x.program: give a list of words"),
        ('[commands.x]\nprogram = ["{a}"]\n', "commands.x.program: its first word names the program"),
        ('[commands."a b"]\nprogram = ["x"]\n', "commands.a b: the name of a command begins with a letter or digit"),
        (SHORT + "gpus = 1\n", 'commands.x.gpus: the agent has no gpus. Add gpus = "all"'),
        ("gpus = [0]\n" + SHORT + "gpus = 2\n", "commands.x.gpus: give a whole number from 1 to 1, not 2."),
        (SHORT + 'launcher = "bash"\n', 'commands.x.launcher: give "local" or "sbatch"'),
        ("gpus = [0]\n" + SHORT + 'launcher = "sbatch"\n', "commands.x.launcher: an agent with gpus cannot start"),
        (
            SHORT + 'sbatch_options = ["--time=1"]\n',
            'commands.x.sbatch_options: these options are valid only with launcher = "sbatch"',
        ),
        (SHORT + 'push = "all"\n', "commands.x.push: give one of none, best, last, not 'all'."),
        (SHORT + 'directory = "missing"\n', "commands.x.directory: there is no folder"),
        (SHORT + 'environment = { STEERSMAN_TOKEN = "x" }\n', "x.environment.STEERSMAN_TOKEN: choose a name"),
        (SHORT + "environment = { A = 1 }\n", "commands.x.environment.A: give text"),
        (A + ".kind = 'int'\n", AT + ": this parameter is not used. Put {a}"),
        ('[commands.x]\nprogram = ["x", "{a}"]\n', "there is no parameter for {a}. Add [commands.x.parameters.a]"),
        (A + ".kind = 'any'\n", AT + ".kind: give one of float, int, bool, str, choice"),
        (A + " = {}\n", AT + ".kind is missing: give one of"),
        (A + " = { kind = 'int', least = 1 }\n", AT + ".least: there is no such field"),
        (A + " = { kind = 'int', minimum = 3, maximum = 1 }\n", AT + ": the minimum is"),
        (A + " = { kind = 'int', maximum = 5, default = 9 }\n", AT + ".default: give a whole number of at most 5"),
        (A + " = { kind = 'choice' }\n", AT + ":"),
        (A + " = { kind = 'int', choices = [[1]] }\n", AT + ".choices: give a list of"),
        ('[commands]\nprogram = ["x"]\n', "commands.program: give each command a table with a name that you choose"),
        (SHORT + "parameters = 3\n", "commands.x.parameters: give a table for each parameter"),
        (
            SHORT + "".join(f"parameters.p{number}.kind = 'int'\n" for number in range(101)),
            "commands.x.parameters: list at most 100 parameters, not 101.",
        ),
        (SHORT + "[slurm]\nqsub = 'x'\n", "slurm.qsub: there is no such field; choose one of: sbatch"),
    ],
)  # fmt: skip
def test_an_error_names_the_field_and_the_remedy(tmp_path: Path, text: str, words: str):
    with pytest.raises(BadFile) as error:
        offer_in(tmp_path, text)
    assert words in str(error.value), error.value
    assert "\n" not in str(error.value)


def test_check_prints_the_offer_and_needs_no_portal(tmp_path: Path):
    def check() -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "steersman", "agent", "--check", "--file", str(tmp_path / "agent.toml")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STEERSMAN_")}
        environment |= {"XDG_CONFIG_HOME": str(tmp_path)}
        return subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)

    missing = check()
    assert missing.returncode == 2
    assert missing.stderr.endswith(
        "agent.toml: there is no such file. Write one, or give the path of yours with --file.\n"
    )
    (tmp_path / "agent.toml").write_text(GOOD)
    done = check()
    assert done.returncode == 0, done.stderr
    assert ": 2 slots\n" in done.stdout and "resnet: ResNet on ImageNet, 2 processes\n" in done.stdout
    assert "  {epochs}: a whole number from 1 to 300; default 90\n" in done.stdout
    assert "  MODE={mode}\n" in done.stdout and f"  in {tmp_path}\n" in done.stdout
