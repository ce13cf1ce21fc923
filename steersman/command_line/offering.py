"""`steersman agent`: starts trainings that people request in a portal, from the commands that a file lists."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from steersman.command_line.problems import Problem
from steersman.command_line.running import data_folder, login_of
from steersman.exit_codes import EXIT_FAILED, EXIT_FINISHED
from steersman.spec import ValueSpec

AGENT_FILE = "agent.toml"


def add_commands(commands: Any) -> None:
    """Add the command to what `argparse.ArgumentParser.add_subparsers` returned."""
    agent = commands.add_parser(
        "agent",
        help="start the trainings that people request in a portal on this machine",
        description="Start the trainings that people request in the portal, on this machine and as its user. Only the "
        f"commands in {AGENT_FILE} can be started. Trainings continue after this command ends.",
    )
    agent.add_argument(
        "--file", type=Path, default=Path(AGENT_FILE), metavar="FILE",
        help="the commands that may be started (default: %(default)s)",
    )  # fmt: skip
    agent.add_argument(
        "--portal", default="", help="address of the portal; default: STEERSMAN_PORTAL, or the newest login"
    )
    agent.add_argument("--check", action="store_true", help="print what would be offered, and start nothing")
    agent.set_defaults(function=run_agent)


def run_agent(chosen: argparse.Namespace) -> int:
    """Print the offer, or serve it until a signal ends it."""
    offer = _offer(chosen.file)
    if chosen.check:
        print("\n".join(described(offer)))
        return EXIT_FINISHED
    from steersman.agent.on_request.agent import NotServed, serve

    try:
        return serve(offer, login_of(chosen.portal), data_folder())
    except NotServed as error:
        raise Problem(str(error), error.exit_code) from error


def described(offer: Any) -> list[str]:
    """Return the lines that describe an `Offer`."""
    slots = f"{len(offer.gpus)} GPUs ({', '.join(offer.gpus)})" if offer.gpus else f"{offer.slots} slots"
    lines = [f"Agent {offer.name}: {slots}"]
    for command in offer.commands.values():
        takes = f", {command.gpus} GPUs" if command.gpus > 1 else ""
        takes += f", {command.processes} processes" if command.processes > 1 else ""
        launcher = "" if command.launcher == "local" else f", by {command.launcher}"
        lines += [f"{command.name}: {command.title}{takes}{launcher}", f"  in {command.directory}"]
        lines += [f"  {' '.join(map(_quoted, command.program))}"]
        lines += [f"  {name}={_quoted(value)}" for name, value in command.environment.items()]
        lines += [f"  {{{spec.name}}}: {_values(spec)}" for spec in command.parameters.values()]
    return lines


def _values(spec: ValueSpec) -> str:
    default = "required" if spec.default is None else f"default {_quoted(spec.default_text)}"
    return f"{spec.takes()}; {default}"


def _quoted(word: str) -> str:
    return word if word and word.isprintable() and " " not in word else repr(word)


def _offer(path: Path) -> Any:
    """Return the `Offer` of a file. Raises `Problem`."""
    try:
        from steersman.agent.folders import host_name
        from steersman.agent.on_request.agent_file import BadFile, read_offer
        from steersman.agent.on_request.gpus import all_gpus
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "steersman":
            raise
        raise Problem(
            f"the package {error.name} is missing: run pip install 'steersman[agent]'", EXIT_FAILED
        ) from error
    try:
        return read_offer(path, host_name(), all_gpus)
    except BadFile as error:
        raise Problem(f"{path}: {error}") from error
