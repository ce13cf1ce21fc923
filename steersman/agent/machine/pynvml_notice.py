"""Keeps one warning off the console: the distribution called pynvml warns of its own name at every import.

torch looks for GPUs through it, so every process with torch would print it; the module itself is nvidia-ml-py's.
"""

from __future__ import annotations

import warnings


def silence_pynvml_notice() -> None:
    """Call before torch or pynvml is imported."""
    warnings.filterwarnings("ignore", message="The pynvml package is deprecated", category=FutureWarning)
