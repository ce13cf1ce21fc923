"""The command line: check the points of a file, and print one line per alarm.

usage: python -m runs.alerts.detectors FILE.jsonl      (- reads standard input)
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TextIO

from runs.alerts.detectors.judge import Judge
from runs.alerts.detectors.lines import LineError, points_of

EXIT_BAD_INPUT = 2
PRINTED = ("detector", "series", "step", "severity")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m runs.alerts.detectors", description=DESCRIPTION)
    parser.add_argument(
        "file", metavar="FILE", help="lines of JSON with series, step, time and value; - is standard input"
    )
    name = parser.parse_args().file
    judge = Judge()
    told = 0
    try:
        with opened(name) as lines:
            for point in points_of(lines):
                for alarm in judge.judge(point):
                    fields = asdict(alarm)
                    print(json.dumps({name: fields[name] for name in PRINTED}), flush=True)
                for message in judge.messages[told:]:
                    print(message, file=sys.stderr)
                told = len(judge.messages)
    except LineError as error:
        print(f"{name}: {error}.", file=sys.stderr)
        return EXIT_BAD_INPUT
    except UnicodeDecodeError:
        print(f"{name} is not a UTF-8 file: save it as UTF-8.", file=sys.stderr)
        return EXIT_BAD_INPUT
    except BrokenPipeError:
        # The reader of the pipe has closed it. The output that is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"{name}: {error.strerror}; name a file that can be read, or - for standard input.", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return 130
    return 0


DESCRIPTION = "Print one line of JSON per alert that begins: detector, series, step and severity."


@contextmanager
def opened(name: str) -> Iterator[TextIO]:
    if name == "-":
        yield sys.stdin
    else:
        with open(name, encoding="utf-8-sig") as file:
            yield file


if __name__ == "__main__":
    sys.exit(main())
