"""Keeps one warning off the console: the distribution called pynvml warns of its own name at every import.

torch looks for GPUs through it, so every process with torch would print it; the module itself is nvidia-ml-py's.
"""

from __future__ import annotations

import warnings

NOTICE = "The pynvml package is deprecated"


def silence_pynvml_notice() -> None:
    """Call before torch or pynvml is imported."""
    warnings.filterwarnings("ignore", message=NOTICE, category=FutureWarning)


def python_warnings(given: str) -> str:
    """Return the value of PYTHONWARNINGS, which was `given`, with which a process of its own does not print it either."""
    return ",".join([*filter(None, [given]), f"ignore:{NOTICE}:FutureWarning"])
