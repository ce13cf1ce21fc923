"""The arguments of the command `steersman`, and its exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import steersman
from steersman.command_line import logging_in, offering, pushing, running
from steersman.command_line.problems import Problem
from steersman.exit_codes import EXIT_INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; each has the function that runs it as `function`."""
    found = argparse.ArgumentParser(
        prog="steersman", description="Train on this machine, and watch and steer the training in a portal elsewhere."
    )
    found.add_argument("--version", action="version", version=f"steersman {steersman.__version__}")
    commands = found.add_subparsers(title="commands", metavar="COMMAND", required=True)
    running.add_commands(commands)
    offering.add_commands(commands)
    pushing.add_commands(commands)
    logging_in.add_commands(commands)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    chosen = parser().parse_args(arguments)
    try:
        code: int = chosen.function(chosen)
    except Problem as problem:
        print(f"steersman: {problem}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return EXIT_INTERRUPTED
    return code
