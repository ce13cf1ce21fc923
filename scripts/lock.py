"""Write requirements.lock from the packages of the virtual environment: `make lock`, after changing a requirement.

Pins have no hashes and no local version, because the wheel of torch differs by platform.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAD = """\
# Everything that requirements.txt and requirements-dev.txt need, at the versions that are tested together.
# Made by `make lock`, installed by `make setup`; also a constraint (-c requirements.lock) for requirements.txt.
"""
# The installer itself is not a dependency.
LEFT_OUT = {"pip"}


def pins(frozen: str) -> list[str]:
    """Return sorted `name==version` lines from the output of `pip freeze --all`."""
    found = []
    for line in frozen.splitlines():
        name, mark, version = line.strip().partition("==")
        if mark and name.lower() not in LEFT_OUT:
            found.append(f"{name}=={version.partition('+')[0]}")
    return sorted(found, key=str.lower)


def main() -> None:
    """Write the lock of the environment whose Python runs this script."""
    frozen = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--all"], check=True, capture_output=True, text=True
    ).stdout
    (ROOT / "requirements.lock").write_text(HEAD + "\n".join(pins(frozen)) + "\n")


if __name__ == "__main__":
    main()
