"""The command line that the programs of outages share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from typing import Any


def run_program(
    measure: Callable[[bool], dict[str, Any]], description: str | None, short_form: str, wrong: Iterable[str]
) -> int:
    """Print the result of `measure` as one JSON object; return 1 if a figure named in `wrong` is not zero."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help=short_form)
    result = measure(parser.parse_args().short)
    print(json.dumps(result))
    return int(any(result[name] for name in wrong))
