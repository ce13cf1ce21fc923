"""Install everything that Steersman needs on this machine: `make setup`.

This script uses only the standard library, because it runs before anything is installed. It leaves parts that are up to
date, and repeats steps that were interrupted. Exits 2 with a message that says what to do.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator

OLDEST_PYTHON = (3, 11)
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
# A large package downloads for minutes, during which pip writes nothing if its output is a file.
TOLD_EVERY_S = 10.0
LOG_LINES_SHOWN = 12


class SetupError(Exception):
    """The set-up cannot continue; the text says what to do."""


class Setup:
    """Updates the folder `root` (a clone), step by step."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.venv = root / ".venv"
        self.python = self.venv / "bin" / "python"
        self.state_file = self.venv / "steersman-setup.json"
        # This file exists while the environment or its packages are being made. If it exists at the start, the last
        # set-up was interrupted.
        self.unfinished = self.venv / "steersman-unfinished"
        self.log = root / "build" / "setup.log"
        self.steps_done = 0

    def run(self) -> None:
        """Do every step whose inputs changed since the last set-up."""
        check_python()
        self.log.parent.mkdir(exist_ok=True)
        with self._alone():
            self._environment()
            self._step("packages", self._packages_digest, self._install_packages)
            self._step("server", self._server_digest, self._check_server)
            self._step("browser", self._browser_digest, self._browser_bundles)
            self._step("static", self._static_digest, self._collect_static)
        if not self.steps_done:
            say("Set-up: nothing to do.")

    # Steps

    def _environment(self) -> None:
        """Create the virtual environment unless a complete one exists."""
        if self.unfinished.exists() or (self._is_ours() and not self._is_usable()):
            say("An earlier set-up was interrupted, or its Python is gone: making .venv again.")
            shutil.rmtree(self.venv)
        if self.venv.exists() and any(self.venv.iterdir()):
            self._accept_environment()
            return
        version = ".".join(map(str, sys.version_info[:3]))
        with self._reported(f"Making .venv with Python {version}"):
            self.venv.mkdir(exist_ok=True)
            self.unfinished.touch()
            self._call([sys.executable, "-m", "venv", str(self.venv)], "Python could not make .venv")

    def _accept_environment(self) -> None:
        if not self._is_usable():
            raise SetupError(
                f"{self.venv} is incomplete (it has no working Python with pip) and was not made by `make setup`: "
                "remove that folder and run `make setup` again."
            )
        found = subprocess.run(
            [str(self.python), "-c", "import sys; print(*sys.version_info[:2])"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        if tuple(map(int, found)) < OLDEST_PYTHON:
            raise SetupError(
                f"{self.venv} holds Python {'.'.join(found)}; Steersman needs {'.'.join(map(str, OLDEST_PYTHON))} or "
                "newer: remove that folder and run `make setup` again."
            )

    def _install_packages(self) -> None:
        """Install the packages of the lock: torch first, so that pip does not resolve another build of it."""
        lock = self.root / "requirements.lock"
        pins = [line.strip() for line in lock.read_text().splitlines() if line.strip() and not line.startswith("#")]
        pip = [str(self.python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "-q"]
        self.unfinished.touch()
        torch = [pin for pin in pins if pin.startswith("torch==")]
        if torch:
            with self._reported(f"Installing {torch[0].replace('==', ' ')}"):
                self._call([*pip, *torch], f"pip could not install {torch[0]}")
        if pins:
            with self._reported(f"Installing the other {len(pins) - len(torch)} packages of requirements.lock"):
                self._call([*pip, "-r", str(lock)], "pip could not install the packages of requirements.lock")
        self.unfinished.unlink()

    def _check_server(self) -> None:
        if (self.root / "monitor_site" / "serving" / "embedded_server.py").exists():
            with self._reported("Checking the embedded server"):
                self._call(
                    [str(self.python), "-m", "monitor_site.serving.embedded_server"], "There is no embedded server"
                )

    def _browser_bundles(self) -> None:
        script = self.root / "scripts" / "browser_bundles.py"
        if script.exists():
            with self._reported("Bundling what browsers load"):
                self._call([str(self.python), str(script)], "What browsers load could not be bundled")

    def _collect_static(self) -> None:
        if (self.root / "manage.py").exists():
            command = [str(self.python), "manage.py", "collectstatic", "--noinput", "-v", "0"]
            with self._reported("Collecting the static files"):
                self._call(command, "The static files could not be collected")

    # What decides whether a step is up to date

    def _step(self, name: str, digest: Callable[[], str | None], action: Callable[[], None]) -> None:
        wanted = digest()
        if wanted is not None and self._state().get(name) == wanted:
            return
        action()
        state = self._state()
        state["path"] = str(self.venv)
        # Compute the digest again: a step may create the file without which its digest is None.
        state[name] = digest()
        partial = self.state_file.with_suffix(".new")
        partial.write_text(json.dumps(state, indent=1) + "\n")
        partial.replace(self.state_file)

    def _state(self) -> dict[str, str | None]:
        try:
            state: dict[str, str | None] = json.loads(self.state_file.read_text())
        except (OSError, ValueError):
            return {}
        return state

    def _is_ours(self) -> bool:
        return self.state_file.exists()

    def _is_usable(self) -> bool:
        # The scripts of a folder that was moved contain the old path; if its Python was removed, the link to it is
        # broken.
        if not os.access(self.python, os.X_OK) or not (self.venv / "pyvenv.cfg").exists():
            return False
        state = self._state()
        if state.get("path", str(self.venv)) != str(self.venv):
            return False
        if "packages" in state:
            return True
        done = subprocess.run([str(self.python), "-m", "pip", "--version"], capture_output=True, check=False)
        return done.returncode == 0

    def _packages_digest(self) -> str | None:
        return self._digest("requirements.lock", ".venv/pyvenv.cfg")

    def _server_digest(self) -> str | None:
        return self._digest("requirements.lock", "monitor_site/serving/embedded_server.py")

    def _browser_digest(self) -> str | None:
        if not (self.root / "static" / "vendor" / "stamp.txt").exists():
            return None
        scripts = sorted(str(path.relative_to(self.root)) for path in (self.root / "static" / "js").rglob("*.js"))
        return self._digest("package.json", "package-lock.json", ".npmrc", "scripts/browser_bundles.py", *scripts)

    def _static_digest(self) -> str | None:
        if not (self.root / "staticfiles" / "staticfiles.json").exists():
            return None
        digest = hashlib.sha256(self._digest("requirements.lock", "monitor_site/static.py").encode())
        for path in sorted((self.root / "static").rglob("*")):
            found = path.stat()
            digest.update(f"{path.relative_to(self.root)} {found.st_size} {found.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def _digest(self, *names: str) -> str:
        digest = hashlib.sha256()
        for name in names:
            path = self.root / name
            digest.update(name.encode() + b"\0" + (path.read_bytes() if path.exists() else b"-") + b"\0")
        return digest.hexdigest()

    # Running commands and reporting

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of this clone: two concurrent set-ups would damage each other's environment."""
        with (self.log.parent / "setup.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("Another set-up runs in this folder: waiting for it.")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _reported(self, text: str) -> Iterator[None]:
        """Print `text`, and how long the block took once it ends."""
        self.steps_done += 1
        print(f"{text} … ", end="", flush=True)
        start = time.monotonic()
        try:
            yield
        except BaseException:
            print(flush=True)
            raise
        say(f"done ({time.monotonic() - start:.0f} s)")

    def _call(self, command: list[str], problem: str) -> None:
        """Run `command` with its output in the log; raise `SetupError` with the end of the output if it fails."""
        with self.log.open("w") as log:
            start = time.monotonic()
            process = subprocess.Popen(
                command, cwd=self.root, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
            try:
                while not _has_ended(process):
                    print(f"{time.monotonic() - start:.0f} s … ", end="", flush=True)
            except BaseException:
                process.kill()
                process.wait()
                raise
        if process.returncode:
            said = self.log.read_text(errors="replace").strip().splitlines()[-LOG_LINES_SHOWN:]
            raise SetupError("\n".join([f"{problem}. Its output ends with (whole log: {self.log}):", *said]))


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Wait for a process at most as long as a person would wait without a report; return whether it has ended."""
    try:
        process.wait(TOLD_EVERY_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def check_python() -> None:
    """Raise `SetupError` if this Python is too old or cannot create a virtual environment."""
    wanted = ".".join(map(str, OLDEST_PYTHON))
    found = ".".join(map(str, sys.version_info[:2]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        raise SetupError(
            f"{sys.executable} is Python {found}; Steersman needs {wanted} or newer. Install one (Debian: "
            "apt-get install python3 python3-venv) or name it: `make setup PYTHON=/path/to/python3.12`."
        )
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise SetupError(
            f"{sys.executable} cannot make virtual environments: install its venv module (Debian: apt-get install "
            f"python{found}-venv) and run `make setup` again."
        )


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """Set up the clone; return the exit status."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent).resolve()
    setup = Setup(root)
    try:
        setup.run()
    except SetupError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("Interrupted: run `make setup` again to continue.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
