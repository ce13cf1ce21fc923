"""Keeps one warning off the console: the distribution called pynvml warns of its own name at every import.

torch looks for GPUs through it, so every process with torch would print it; the module itself is nvidia-ml-py's.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

NOTICE = "The pynvml package is deprecated"


def silence_pynvml_notice() -> None:
    """Call before torch or pynvml is imported."""
    warnings.filterwarnings("ignore", message=NOTICE, category=FutureWarning)


def without_notice(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which the notice is not printed, neither by a script nor by what it starts.

    Other filters of `PYTHONWARNINGS` stay. Ours counts more, since one such as `error` would end a training by it.
    """
    own = f"ignore:{NOTICE}:FutureWarning"
    given = environment.get("PYTHONWARNINGS", "")
    return {**environment, "PYTHONWARNINGS": f"{given},{own}" if given else own}
