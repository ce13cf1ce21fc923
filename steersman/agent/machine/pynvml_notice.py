"""Suppresses a warning on the console: the distribution called pynvml warns about its own name at every import.

torch uses it to find GPUs, so every process with torch would print the warning; the module itself is nvidia-ml-py's.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

NOTICE = "The pynvml package is deprecated"


def silence_pynvml_notice() -> None:
    """Ignore the warning. Call before torch or pynvml is imported."""
    warnings.filterwarnings("ignore", message=NOTICE, category=FutureWarning)


def without_notice(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which neither a script nor its child processes print the notice.

    Other filters of `PYTHONWARNINGS` stay. Ours wins, because a filter such as `error` would let the notice end a
    training.
    """
    own = f"ignore:{NOTICE}:FutureWarning"
    given = environment.get("PYTHONWARNINGS", "")
    return {**environment, "PYTHONWARNINGS": f"{given},{own}" if given else own}
