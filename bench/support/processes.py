"""Memory and CPU time of a measured process, as the kernel reports them."""

from __future__ import annotations

import os
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process and all its threads, user and system, to a hundredth of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def rss_mb(pid: int, field: str = "VmRSS") -> float:
    """Return the memory of a process in MB, 0 if the process has ended.

    `field` is VmRSS for now, VmHWM for the highest.
    """
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return 0.0


def peak_rss_mb(pid: int) -> float:
    """Return the highest memory of a process in MB."""
    return rss_mb(pid, "VmHWM")
