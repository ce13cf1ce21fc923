"""Check that the programs which the tests need are installed; as root, install missing ones with apt-get.

As another user, print the packages and the command, and exit 2.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys

# Programs that must start, and the Debian packages that contain them.
PROGRAMS = {
    "chromium": ["chromium"],  # the pages in a real browser
    "initdb": ["postgresql"],  # the server of the tests, see scripts/postgres.py
    "nginx": ["nginx"],  # the proxy of compose.yaml
    "prometheus": ["prometheus"],  # collects /metrics; its package contains promtool too
    "amtool": ["prometheus-alertmanager"],  # checks the file that routes the alerts of Prometheus
    "slapd": ["slapd"],  # a directory (LDAP) for logins
    "docker-compose": ["docker-compose"],  # checks compose.yaml without Docker
    "cc": ["gcc", "libc6-dev"],  # compiles a fake of NVIDIA's library for the tests of GPU sampling
}
# Debian keeps the programs of a PostgreSQL server off the PATH, and /usr/sbin off the PATH of most users.
DEBIAN_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/sbin")
# The option that prints the version of a program, if it is not --version.
VERSION_OPTIONS = {"nginx": "-v", "slapd": "-VV"}
EXIT_BAD_INPUT = 2
LOG_LINES_SHOWN = 8


def starts(program: str) -> bool:
    """Return whether `program` is on the PATH and runs (on Ubuntu chromium is a stub that may not)."""
    folders = [folder for pattern in DEBIAN_FOLDERS for folder in glob.glob(pattern)]
    path = shutil.which(program) or shutil.which(program, path=os.pathsep.join(folders))
    if path is None:
        return False
    try:
        command = [path, VERSION_OPTIONS.get(program, "--version")]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def main() -> int:
    """Return the exit status."""
    packages = [package for program, names in PROGRAMS.items() if not starts(program) for package in names]
    if not packages:
        return 0
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"The tests need {', '.join(packages)}. Install with: sudo {' '.join(command)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    print(f"Installing {', '.join(packages)} for the tests …", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update"], command):
        done = subprocess.run(step, env=quiet, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines()[-LOG_LINES_SHOWN:]
            print("\n".join([f"`{' '.join(step)}` failed. Its output ends with:", *said]), file=sys.stderr)
            return EXIT_BAD_INPUT
    missing = [program for program in PROGRAMS if not starts(program)]
    if missing:
        print(
            f"{', '.join(missing)} still does not start after {' '.join(command)}: "
            "run this command yourself, and read its output.",
            file=sys.stderr,
        )
        return EXIT_BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
