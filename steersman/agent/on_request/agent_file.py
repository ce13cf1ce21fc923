"""Reads `agent.toml`. Each error names the field and the remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from steersman.agent.on_request.offered import LOCAL, SBATCH, Command, Offer, SlurmPrograms, places_in
from steersman.kinds import KINDS, AnyValue, SpecError
from steersman.spec import ValueSpec
from steersman.starting.messages import PUSHES
from steersman.values import shown

MOST_SLOTS = 1000
MOST_PROCESSES = 1024
MOST_COMMANDS = 100
MOST_PARAMETERS = 100
LONGEST_NAME = 100
LONGEST_TITLE = 200
LONGEST_HELP = 1000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OFFERED_KINDS = [name for name in KINDS if name != AnyValue.name]
Table = dict[str, Any]


class BadFile(ValueError):
    """The file cannot be used. The text names the field and the remedy."""


class Fields:
    """The fields of a table. `place` is its name in errors, such as `commands.resnet`."""

    def __init__(self, table: object, place: str, known: str) -> None:
        if not isinstance(table, dict):
            raise BadFile(f"{place}: this must be a table, as in [{place}], not {shown(table)}.")
        self._table = table
        self._place = place
        self.known = known.split()
        for name in table:
            if name not in self.known:
                raise BadFile(f"{self.path(name)}: there is no such field; choose one of: {', '.join(self.known)}.")

    def path(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name

    def has(self, name: str) -> bool:
        return name in self._table

    def get(self, name: str) -> Any:
        return self._table.get(name)

    def text(self, name: str, default: str = "", longest: int = LONGEST_HELP) -> str:
        value = self._table.get(name, default)
        if not isinstance(value, str) or len(value) > longest or not value.isprintable():
            raise self.bad(name, f"give one line of text of at most {longest} characters")
        return value.strip()

    def number(self, name: str, default: int, least: int, most: int) -> int:
        value = self._table.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.bad(name, f"give a whole number from {least} to {most}")
        return value

    def words(self, name: str, remedy: str) -> list[str]:
        value = self._table.get(name, [])
        if not isinstance(value, list) or not all(isinstance(word, str) and "\0" not in word for word in value):
            raise self.bad(name, remedy)
        return list(value)

    def bad(self, name: str, remedy: str) -> BadFile:
        if name not in self._table:
            return BadFile(f"{self.path(name)} is missing: {remedy}.")
        return BadFile(f"{self.path(name)}: {remedy}, not {shown(self._table[name])}.")


def read_offer(path: Path, host: str, all_gpus: Callable[[], list[str]]) -> Offer:
    """Return the offer in a file. `host` is the default name; `all_gpus` returns the GPUs of this host.

    Raises `BadFile`.
    """
    return offer_of(_parsed(path), path.parent, host, all_gpus)


def offer_of(table: Table, folder: Path, host: str, all_gpus: Callable[[], list[str]]) -> Offer:
    """Return the offer in a parsed file. Relative directories begin at `folder`. Raises `BadFile`."""
    fields = Fields(table, "", "name slots gpus commands slurm")
    name = fields.text("name", host, LONGEST_NAME)
    if not NAME.fullmatch(name):
        raise BadFile(f"name: give letters, digits, dots, - and _, not {shown(name)}.")
    gpus = _gpus(fields, all_gpus)
    if gpus and fields.has("slots"):
        raise BadFile("slots: an agent with gpus has one slot for each GPU. Remove slots or gpus.")
    given = fields.get("commands")
    if not given or not isinstance(given, dict):
        raise BadFile('commands: list at least one command, as in [commands.resnet] with program = ["train.py"].')
    if len(given) > MOST_COMMANDS:
        raise BadFile(f"commands: list at most {MOST_COMMANDS} commands.")
    commands = {each: _command(each, value, folder, gpus) for each, value in given.items()}
    slots = len(gpus) or fields.number("slots", 1, 1, MOST_SLOTS)
    return Offer(name=name, slots=slots, gpus=gpus, commands=commands, slurm=_slurm(fields.get("slurm")))


def _parsed(path: Path) -> Table:
    try:
        found = msgspec.toml.decode(path.read_bytes(), type=Table)
    except ImportError as error:
        raise BadFile("Python 3.10 cannot read TOML: run pip install tomli, or use Python 3.11 or newer.") from error
    except FileNotFoundError as error:
        raise BadFile("there is no such file. Write one, or give the path of yours with --file.") from error
    except OSError as error:
        raise BadFile(f"the file cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise BadFile(f"the file is not TOML: {error}.") from error
    return found


def _gpus(fields: Fields, all_gpus: Callable[[], list[str]]) -> list[str]:
    given = fields.get("gpus")
    if given is None:
        return []
    if given == "all":
        found = all_gpus()
        if not found:
            raise BadFile('gpus: "all" finds no GPU on this host: remove gpus and give slots, or check the driver.')
        return found
    names = given if isinstance(given, list) else []
    texts = [str(each) for each in names if isinstance(each, str | int) and not isinstance(each, bool)]
    if not texts or len(texts) != len(names) or len(set(texts)) != len(texts) or not all(map(_is_gpu, texts)):
        raise fields.bad("gpus", 'give "all", or a list of different GPUs by number or UUID, as in [0, 1]')
    return texts


def _is_gpu(text: str) -> bool:
    return text.isdecimal() or text.startswith(("GPU-", "MIG-"))


def _command(name: str, table: object, folder: Path, gpus: list[str]) -> Command:
    place = f"commands.{name}"
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise BadFile(
            f"{place}: the name of a command begins with a letter or digit, and has only letters, digits, dots, - and "
            f"_, and at most {LONGEST_NAME} characters."
        )
    if not isinstance(table, dict):
        raise BadFile(
            f"{place}: give each command a table with a name that you choose, as in [commands.resnet], not "
            f"{shown(table)}."
        )
    fields = Fields(
        table, place, "title help program directory environment processes gpus launcher sbatch_options push parameters"
    )
    program = fields.words("program", 'give a list of words, as in ["python", "train.py", "--epochs", "{epochs}"]')
    if not program or not program[0].strip():
        raise fields.bad("program", 'give a list of words, as in ["python", "train.py", "--epochs", "{epochs}"]')
    if places_in(program[0]):
        raise BadFile(f"{fields.path('program')}: its first word names the program and must not contain a parameter.")
    launcher = fields.text("launcher", LOCAL)
    if launcher not in (LOCAL, SBATCH):
        raise fields.bad("launcher", f'give "{LOCAL}" or "{SBATCH}"')
    if launcher == SBATCH and gpus:
        raise BadFile(
            f"{fields.path('launcher')}: an agent with gpus cannot start Slurm jobs. Start another agent, without gpus."
        )
    options = fields.words("sbatch_options", 'give a list of words, as in ["--gres=gpu:1", "--time=24:00:00"]')
    if options and launcher != SBATCH:
        raise BadFile(f'{fields.path("sbatch_options")}: these options are valid only with launcher = "{SBATCH}".')
    push = fields.text("push", PUSHES[0])
    if push not in PUSHES:
        raise fields.bad("push", f"give one of {', '.join(PUSHES)}")
    if fields.has("gpus") and not gpus:
        raise BadFile(f'{fields.path("gpus")}: the agent has no gpus. Add gpus = "all" above the commands.')
    parameters = _parameters(fields)
    environment = _environment(fields)
    _check_places(fields, parameters, program, environment)
    return Command(
        name=name,
        title=fields.text("title", "", LONGEST_TITLE) or name,
        help=fields.text("help"),
        program=program,
        directory=_directory(fields, folder),
        environment=environment,
        processes=fields.number("processes", 1, 1, MOST_PROCESSES),
        gpus=fields.number("gpus", 1, 1, len(gpus)) if gpus else 0,
        launcher=launcher,
        sbatch_options=options,
        push=push,
        parameters=parameters,
    )


def _directory(fields: Fields, folder: Path) -> Path:
    directory = folder / Path(fields.text("directory", ".", 4096)).expanduser()
    if not directory.is_dir():
        raise BadFile(f"{fields.path('directory')}: there is no folder {directory}.")
    return directory.resolve()


def _environment(fields: Fields) -> dict[str, str]:
    given = fields.get("environment") or {}
    place = fields.path("environment")
    if not isinstance(given, dict):
        raise fields.bad("environment", 'give a table, as in { BATCH = "{batch}" }')
    for name, value in given.items():
        if not VARIABLE.fullmatch(name) or name.startswith("STEERSMAN_"):
            raise BadFile(
                f"{place}.{name}: choose a name of letters, digits and _ that does not begin with STEERSMAN_."
            )
        if not isinstance(value, str) or "\0" in value:
            raise BadFile(f'{place}.{name}: give text, as in "{{batch}}", not {shown(value)}.')
    return dict(given)


def _parameters(fields: Fields) -> dict[str, ValueSpec]:
    given = fields.get("parameters") or {}
    path = fields.path("parameters")
    if not isinstance(given, dict):
        raise fields.bad("parameters", f'give a table for each parameter, as in [{path}.rate] with kind = "float"')
    if len(given) > MOST_PARAMETERS:
        raise BadFile(f"{path}: list at most {MOST_PARAMETERS} parameters, not {len(given)}.")
    return {name: _parameter(name, table, path) for name, table in given.items()}


def _parameter(name: str, table: object, above: str) -> ValueSpec:
    place = f"{above}.{name}"
    if not PARAMETER.fullmatch(name):
        raise BadFile(f"{place}: name a parameter with letters, digits and _, such as learning_rate.")
    fields = Fields(table, place, "kind minimum maximum choices unit help default")
    kind = fields.text("kind")
    if kind not in OFFERED_KINDS:
        raise fields.bad("kind", f"give one of {', '.join(OFFERED_KINDS)}")
    choices = fields.get("choices") or []
    if not isinstance(choices, list) or not all(isinstance(each, str | int | float) for each in choices):
        raise fields.bad("choices", "give a list of texts or numbers")
    try:
        return ValueSpec(
            name=name,
            kind=kind,
            minimum=fields.get("minimum"),
            maximum=fields.get("maximum"),
            choices=tuple(choices),
            unit=fields.text("unit", "", 20),
            help=fields.text("help"),
            default=fields.get("default"),
        )
    except (SpecError, TypeError) as error:
        said = str(error).rstrip(".")
        if said.startswith(f"{name} takes "):
            raise BadFile(f"{fields.path('default')}: {said.replace(f'{name} takes', 'give', 1)}.") from error
        raise BadFile(f"{place}: {said.removeprefix(f'{name}: ')}.") from error


def _check_places(
    fields: Fields, parameters: Mapping[str, ValueSpec], program: list[str], environment: Mapping[str, str]
) -> None:
    """Raise `BadFile` for a parameter that nothing uses, and for a place without a parameter."""
    used = {place for word in (*program, *environment.values()) for place in places_in(word)}
    for name in parameters:
        if name not in used:
            raise BadFile(
                f"{fields.path('parameters')}.{name}: this parameter is not used. Put {{{name}}} into "
                '"program" or "environment", or remove the parameter.'
            )
    for name in sorted(used):
        if name not in parameters:
            raise BadFile(
                f"{fields.path('program')} and {fields.path('environment')}: there is no parameter for {{{name}}}. Add "
                f"[{fields.path('parameters')}.{name}], or remove {{{name}}}."
            )


def _slurm(table: object) -> SlurmPrograms:
    fields = Fields({} if table is None else table, "slurm", "sbatch squeue sacct scancel")
    found = {name: fields.text(name, name, 4096) for name in fields.known}
    for name, program in found.items():
        if not program:
            raise fields.bad(name, "give the name or the path of the program")
    return SlurmPrograms(**found)
