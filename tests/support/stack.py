"""A real stack for tests and benches: embedded server, Daphne, supervisors, each a process that can be killed.

Everything is in one temporary folder and listens on a free port. Does not import Django: to read the same database in
this process, call `use` before the first import of Django.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from monitor_site.serving.embedded_server import EmbeddedServer  # noqa: E402  needs the path
from tests.support import postgres  # noqa: E402
from tests.support.command_server import TIMEOUT_S, CommandServer, StartedCommand  # noqa: E402
from tests.support.hosts.ports import free_port  # noqa: E402

# Far longer than any start takes, for machines under load.
START_TIMEOUT_S = 120.0
# Tests find the processes of these commands by command line and environment; a fork has those of its server.
STARTED_AFRESH = {"doctor", "migrate", "serve", "serve_portal", "watch"}
# Databases to copy, because a migration takes longer than most tests.
TEMPLATES = ROOT / "build" / "databases"
Found = TypeVar("Found")
CHANGED_COMMAND = """
import os, sys
sys.path.insert(0, {root!r})
os.environ["DJANGO_SETTINGS_MODULE"] = "monitor_site.settings"
import django
django.setup()
{changed}
import manage
manage.main()
"""


def wait_for(
    look: Callable[[], Found | None], what: str | Callable[[], str], timeout_s: float = START_TIMEOUT_S
) -> Found:
    """Return the result of `look` once it is true; raise `TimeoutError` with `what` after `timeout_s`.

    `what` is a function if it reads a log, so that the error has the log at that time.
    """
    until = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > until:
            raise TimeoutError(f"waited {timeout_s:.0f} s for {what if isinstance(what, str) else what()}")
        time.sleep(0.02)


class Stack:
    """Processes of one data folder. Use as a context manager, which leaves nothing behind."""

    # Whether trainings and portals run in forks of the command server: cheaper, but they share memory with it.
    forks = False
    # A module for the command server, see there.
    warm = ""

    def __init__(self, data: Path | None = None, **variables: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="steersman-test-"))
        self.data = data or self.folder / "data"
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.port = free_port()
        self.redis = EmbeddedServer(self.data)
        self.web: subprocess.Popen[bytes] | StartedCommand | None = None
        self.record: subprocess.Popen[bytes] | None = None
        self.trainings: list[subprocess.Popen[bytes] | StartedCommand] = []
        self._database = ""
        self._commands: CommandServer | None = None
        # Several threads may need its first command at once.
        self._commands_lock = threading.Lock()
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("STEERSMAN_", "DJANGO_"))
        } | {
            "STEERSMAN_DATA": str(self.data),
            "STEERSMAN_PORT": str(self.port),
            "PYTHONUNBUFFERED": "1",
            # A separate folder, so that packages built in the clone do not appear on pages of a test.
            "STEERSMAN_CLIENT_PACKAGES": str(self.folder / "client-packages"),
            **variables,
        }
        if postgres.server() and "STEERSMAN_DATABASE_URL" not in variables:
            self._database = f"stack_{secrets.token_hex(6)}"
            self.environment["STEERSMAN_DATABASE_URL"] = postgres.create_database(self._database)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def use(self) -> None:
        """Let this process use the stack's database through Django."""
        names = ("STEERSMAN_DATA", "STEERSMAN_PORT", "STEERSMAN_DATABASE_URL")
        os.environ.update({name: self.environment[name] for name in names if name in self.environment})
        os.environ["DJANGO_SETTINGS_MODULE"] = "monitor_site.settings"
        import django

        django.setup()

    def manage(self, *arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a management command to its end."""
        if options or arguments[0] in STARTED_AFRESH or (arguments[0] == "train" and not self.forks):
            options |= {"capture_output": True, "text": True, "timeout": TIMEOUT_S}
            result = subprocess.run(self.command(*arguments), env=self.environment, **options)
        else:
            result = self._command_server().run(arguments)
        if check and result.returncode:
            raise AssertionError(f"manage.py {' '.join(arguments)} exited {result.returncode}:\n{result.stderr}")
        return result

    def _command_server(self) -> CommandServer:
        with self._commands_lock:
            if self._commands is None or self._commands.environment != self.environment:
                if self._commands is not None:
                    self._commands.close()
                self._commands = CommandServer(self.environment, self.folder, self.warm)
            return self._commands

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(ROOT / "manage.py"), *arguments]

    def _changed_command(self, changed: str, *arguments: str) -> list[str]:
        """Return a command that runs the Python code `changed` between the set-up of Django and the command."""
        if not changed:
            return self.command(*arguments)
        program = self.folder / f"changed-{secrets.token_hex(4)}.py"
        program.write_text(CHANGED_COMMAND.format(root=str(ROOT), changed=changed))
        return [sys.executable, str(program), *arguments]

    def migrate(self, seed: str = "") -> None:
        """Create the database, and run `seed`, a Python text, on it; SQLite files are made once and copied."""
        if "STEERSMAN_DATABASE_URL" in self.environment:
            self._fill(seed)
            return
        database = self.data / "steersman.sqlite3"
        template = TEMPLATES / f"{state_of_migrations(seed)}.sqlite3"
        if not template.exists():
            self._fill(seed)
            TEMPLATES.mkdir(parents=True, exist_ok=True)
            copy = template.with_suffix(f".{os.getpid()}")
            shutil.copy(database, copy)
            copy.replace(template)
        elif not database.exists():
            shutil.copy(template, database)

    def _fill(self, seed: str) -> None:
        self.manage("migrate", "-v", "0")
        if seed:
            self.manage("shell", "-v", "0", "-c", seed)

    def start_redis(self) -> None:
        self.redis.start()

    def start_web(self, changed: str = "") -> None:
        """Start the portal. `changed` is Python code that changes parts of it before it serves."""
        words = ("serve_portal", "--port", str(self.port))
        log = self.folder / "web.log"
        if self.forks and not changed:
            self.web = self._command_server().start(words, log, Path.cwd())
        else:
            with log.open("ab") as output:
                self.web = subprocess.Popen(
                    self._changed_command(changed, *words), env=self.environment, stdout=output, stderr=output
                )
        self.wait_for_web()

    def start_record(self, *words: str) -> None:
        """Start the process that records the trainings of other hosts, with options such as a port of its own."""
        log = self.folder / "record.log"
        with log.open("ab") as output:
            before = output.tell()
            command = self.command("record", *words)
            self.record = subprocess.Popen(command, env=self.environment, stdout=output, stderr=output)
        wait_for(lambda: b"ready for" in log.read_bytes()[before:], "the process that records")

    def wait_for_web(self) -> None:
        def answers() -> bool:
            if self.web is not None and self.web.poll() is not None:
                raise AssertionError(f"the portal ended:\n{(self.folder / 'web.log').read_text()[-3000:]}")
            try:
                with urllib.request.urlopen(f"{self.address}/login/", timeout=60):
                    return True
            except urllib.error.HTTPError:
                return True
            except OSError:
                return False

        wait_for(answers, lambda: f"the portal\n{self.log()}")

    def train(
        self, run_id: int, *arguments: str, cwd: Path | None = None, changed: str = "", **variables: str
    ) -> subprocess.Popen[bytes] | StartedCommand:
        """Start `train --run-id`; its output goes to `train.log` in the stack's folder.

        `changed` is Python code that changes parts of the supervisor before it starts.
        """
        words = ("train", "--run-id", str(run_id), *arguments)
        log = self.folder / "train.log"
        if self.forks and not variables and not changed:
            self.trainings.append(self._command_server().start(words, log, cwd or Path.cwd()))
            return self.trainings[-1]
        with log.open("ab") as output:
            process = subprocess.Popen(
                self._changed_command(changed, *words), env=self.environment | variables, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True, cwd=cwd,
            )  # fmt: skip
        self.trainings.append(process)
        return process

    def worker_pid(self, run_id: int) -> int | None:
        """Return the pid of the newest attempt's living worker."""
        attempts = sorted((self.data / "runs" / str(run_id) / "attempts").glob("*"), key=lambda path: int(path.name))
        for folder in reversed(attempts[-1:]):
            try:
                pid = int(json.loads((folder / "worker.json").read_text())["pid"])
                os.kill(pid, 0)
                return pid
            except (OSError, ValueError):
                return None
        return None

    def log(self) -> str:
        """Return the output of trainings, portal and later supervisors, for the message of a failed test."""
        paths = [*sorted(self.folder.glob("*.log")), *sorted((self.data / "logs").glob("*.log"))]
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-4000:]}" for path in paths)

    def close(self) -> None:
        if self._commands is not None:
            self._commands.close()
        for process in [*self.trainings, *filter(None, (self.web, self.record))]:
            if process.poll() is None:
                process.kill()
            process.wait()
        for worker in (self.data / "runs").glob("*/attempts/*/worker*.json"):
            kill(int(json.loads(worker.read_text())["pid"]), of=self.data)
        self.redis.stop()
        if self._database:
            postgres.drop_database(self._database)
        shutil.rmtree(self.folder, ignore_errors=True)


def state_of_migrations(seed: str) -> str:
    """Return a name for the database that migrations, pinned packages, installed apps and `seed` produce."""
    told = hashlib.sha256(seed.encode())
    others = [ROOT / "requirements.lock", ROOT / "monitor_site" / "settings.py"]
    for path in [*sorted((ROOT / "runs" / "migrations").glob("*.py")), *others]:
        told.update(path.read_bytes())
    return told.hexdigest()[:16]


def kill(pid: int, of: Path | None = None) -> bool:
    """Kill a process with SIGKILL; with `of`, only if its environment names that data folder."""
    try:
        if of is not None and f"STEERSMAN_DATA={of}".encode() not in Path(f"/proc/{pid}/environ").read_bytes():
            return False
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return False
    return True


def run_check(program: str, *arguments: str, timeout_s: float = 600.0) -> dict[str, Any]:
    """Run a program of tests/chaos in a short form; return the JSON object that it prints last."""
    command = [sys.executable, "-m", f"tests.chaos.{program}", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s)
    # A program that finds a fault exits with 1 too, but after printing the fault.
    assert result.stdout, f"{program} exited {result.returncode}:\n{result.stderr}"
    return last_json(result.stdout)


def last_json(output: str) -> dict[str, Any]:
    """Return the JSON object on the last line of a bench's output."""
    result: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return result


def seed_project(members: Sequence[tuple[str, str]] = (("operator", "operator"),)) -> Any:
    """Create a project "lab" with (user name, role) members whose password is their name; needs `Stack.use`."""
    from django.contrib.auth.models import User

    from runs.models import Membership, Project

    project = Project.objects.create(name="Lab", slug="lab")
    for name, role in members:
        user = User.objects.create_user(name, password=name)
        Membership.objects.create(project=project, user=user, role=role)
    return project


SEED = """
from django.contrib.auth.models import User
from runs.models import Membership, Project
project = Project.objects.create(name="Lab", slug="lab")
for role in ("owner", "operator", "viewer"):
    user = User.objects.create_user(role, password=role, first_name=role.title(), last_name="Lab")
    Membership.objects.create(project=project, user=user, role=role)
User.objects.create_user("stranger", password="stranger")
User.objects.create_superuser("admin", password="admin")
"""


def seed_stack(stack: Stack) -> None:
    """Migrate, and create a project "lab" with owner, operator and viewer, a stranger and an admin; password = name."""
    stack.migrate(SEED)


@contextmanager
def started_stack() -> Iterator[Stack]:
    """A seeded stack whose embedded server and portal are started."""
    with Stack() as stack:
        seed_stack(stack)
        stack.start_redis()
        stack.start_web()
        yield stack


def operator_ticket(run_id: int) -> str:
    """Return a ticket of the operator for the socket of a run, in any thread; needs `Stack.use`."""
    from django.contrib.auth.models import User
    from django.db import connection

    from runs.access.tickets import issue_ticket
    from runs.models import Run

    try:
        return issue_ticket(User.objects.get(username="operator"), Run.objects.get(pk=run_id))
    finally:
        connection.close()


def create_run(stack: Stack, name: str = "run", **fields: Any) -> int:
    """Create a run of the project "lab" by SQL, for a person's script, and return its id."""
    values = {
        "project_id": 1, "name": name, "parameters": "{}", "device": "cpu", "seed": 0, "deterministic": False,
        "created_at": "2026-01-01 00:00:00+00:00", "state": "created", "reason": "", "cause": "{}", "attempt": 0,
        "heartbeat": 0, "last_seq": 0, "replay_from": 0, "step": 0, "epoch": 0, "best_metric_name": "",
        "queued_host": "", "description": "", "review_note": "", "knobs": "[]", "handled_commands": "[]",
        "extra_epochs": 0,
        "start_paused": False, "is_paused": False, "ranks": 1, "thinnings": 0,
        "restarts": 0, "restarts_used": 0, "given_devices": "[]", "trained_s": 0.0, "gpu_s": 0.0, "gpus_held": 0,
        "priority": 0, "after_condition": "finished", **fields,
    }  # fmt: skip
    sql = f"INSERT INTO runs_run ({', '.join(values)}) VALUES ({', '.join('?' * len(values))}) RETURNING id"
    return int(rows(stack, sql, *values.values())[0]["id"])


def rows(stack: Stack, sql: str, *arguments: Any) -> list[dict[str, Any]]:
    """Read or write the stack's database from outside; each `?` is an argument."""
    if "STEERSMAN_DATABASE_URL" in stack.environment:
        return postgres.execute(stack.environment["STEERSMAN_DATABASE_URL"], sql, arguments)
    with closing(sqlite3.connect(stack.data / "steersman.sqlite3", timeout=20)) as database:
        database.row_factory = sqlite3.Row
        found = [dict(row) for row in database.execute(sql, arguments)]
        database.commit()
        return found


def run_row(stack: Stack, run_id: int) -> dict[str, Any]:
    return rows(stack, "SELECT * FROM runs_run WHERE id = ?", run_id)[0]


def events(stack: Stack, run_id: int, kind: str | None = None) -> list[dict[str, Any]]:
    """Return the stored events of a run, decoded, in order."""
    found = rows(stack, "SELECT frame FROM runs_storedevent WHERE run_id = ? ORDER BY seq", run_id)
    decoded = [json.loads(row["frame"]) for row in found]
    return [event for event in decoded if kind is None or event["kind"] == kind]
