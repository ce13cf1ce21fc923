"""The image and its services, as far as tests can check them without Docker: entry script, Dockerfile, compose file."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.stack import ROOT, Stack, create_run, rows, wait_for

HADOLINT = Path(sys.executable).parent / "hadolint"
COMPOSE = shutil.which("docker-compose")
ENDING_S = 30
LAN_ADDRESS = "192.0.2.7"
MUST_BE_SET = {"STEERSMAN_HOSTS": "steersman.example.org", "STEERSMAN_CERTIFICATE": "/etc/ssl/steersman"}


@pytest.fixture
def container() -> Iterator[Stack]:
    """A data folder, as a volume would be, and the variables of the image."""
    with Stack() as stack:
        stack.environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "STEERSMAN_BIND": "127.0.0.1",
        }
        yield stack


def listens(port: int) -> bool:
    """Return whether the port accepts connections; this saves health checks, each of which is a process."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def started(stack: Stack, role: str) -> Iterator[str]:
    """Run the entry script until the health check passes, and end it as `docker stop` does; yield its output."""
    log = stack.folder / f"{role}-{time.monotonic_ns()}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(ROOT / "deploy" / "entry.sh"), role], env=stack.environment, stdout=output, stderr=output, cwd="/"
        )
    try:

        def healthy() -> bool:
            assert process.poll() is None, log.read_text()
            if not listens(stack.port):
                return False
            check = [sys.executable, str(ROOT / "deploy" / "health.py")]
            return subprocess.run(check, env=stack.environment, capture_output=True).returncode == 0

        wait_for(healthy, f"the portal\n{log}")
        yield log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(ENDING_S) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_new_container_on_the_same_volume_keeps_runs_and_prints_no_second_login(container: Stack) -> None:
    with started(container, "serve") as said:
        [(user, password)] = re.findall(r"^login (\S+) (\S+)$", said, re.MULTILINE)
        assert user == "admin" and len(password) == 16
        assert sign_in(container, user, password)
        assert not sign_in(container, user, password[:-1])
        run_id = create_run(container, "earlier")
        # A container cannot know the address of its host; the page says which setting to change.
        with pytest.raises(urllib.error.HTTPError) as refused:
            sign_in(container, user, password, LAN_ADDRESS)
        assert refused.value.code == 400
        assert f"STEERSMAN_HOSTS={LAN_ADDRESS},localhost" in refused.value.read().decode()
    container.environment["STEERSMAN_HOSTS"] = f"{LAN_ADDRESS},localhost,127.0.0.1"
    with started(container, "serve") as said:
        assert "login" not in said
        assert sign_in(container, user, password)
        assert sign_in(container, user, password, LAN_ADDRESS)
    assert [row["name"] for row in rows(container, "SELECT name FROM runs_run WHERE id = ?", run_id)] == ["earlier"]
    assert rows(container, "SELECT spec FROM runs_recipe WHERE spec = ?", "mnist")


def test_it_makes_no_account_where_there_is_one(container: Stack) -> None:
    container.migrate()
    container.manage("shell", "-v", "0", "-c", "from django.contrib.auth.models import User; User(username='u').save()")
    assert container.manage("first_login").stdout == ""
    assert [row["username"] for row in rows(container, "SELECT username FROM auth_user")] == ["u"]


def test_it_says_that_the_volume_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    done = subprocess.run(
        [str(ROOT / "deploy" / "entry.sh"), "serve"],
        env=os.environ | {"STEERSMAN_DATA": str(blocked / "data")}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"cannot write to {blocked / 'data'}" in done.stderr and "chown" in done.stderr


def test_it_runs_any_other_command(tmp_path: Path) -> None:
    command = [str(ROOT / "deploy" / "entry.sh"), "sh", "-c", 'echo "$0 $PWD"', "two words"]
    done = subprocess.run(
        command, env=os.environ | {"STEERSMAN_DATA": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"two words {ROOT}\n"


def test_the_health_check_fails_where_nothing_answers(container: Stack) -> None:
    check = [sys.executable, str(ROOT / "deploy" / "health.py")]
    done = subprocess.run(check, env=container.environment, capture_output=True, text=True)
    assert done.returncode == 1 and "does not answer" in done.stderr


def test_the_dockerfile_passes_hadolint() -> None:
    done = subprocess.run([str(HADOLINT), str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_image_that_can_be_built_runs_without_root_and_has_no_second_torch() -> None:
    text = (ROOT / "Dockerfile").read_text()
    base, *stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    assert base.startswith("${BASE} AS base\n")
    assert "ARG BASE=pytorch/pytorch:2.7.1-cuda12.8-cudnn9-runtime\n" in text
    by_name = {stage.split(" AS ")[1].split("\n")[0]: stage for stage in stages}
    for name in ("lab", "portal", "slim"):
        assert re.findall(r"^USER (\S+)", by_name[name], re.MULTILINE) == ["10001"]
    assert list(by_name)[-1] == "portal"
    assert "HEALTHCHECK" in by_name["application"]
    assert "torch=={torch.__version__}" in by_name["build"] and "-c /tmp/constraints.txt" in by_name["build"]
    assert not re.search(r"^(ARG|ENV) .*(SECRET|PASSWORD|TOKEN|KEY)", text, re.MULTILINE)


def test_ssh_of_the_workbench_takes_keys_alone() -> None:
    words = dict(
        line.split(maxsplit=1)
        for line in (ROOT / "deploy" / "sshd_config").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert words["PasswordAuthentication"] == words["KbdInteractiveAuthentication"] == words["UsePAM"] == "no"
    assert words["AuthenticationMethods"] == "publickey" and words["PermitRootLogin"] == "no"
    lab = (ROOT / "deploy" / "lab.sh").read_text()
    assert "--ip=127.0.0.1" in lab and "JUPYTER_TOKEN_FILE" in lab


@pytest.mark.skipif(COMPOSE is None, reason="docker-compose is not installed")
def test_the_compose_file_is_valid_and_closes_what_it_starts(tmp_path: Path) -> None:
    told = compose(MUST_BE_SET, tmp_path)
    services = told["services"]
    usual = {"proxy", "web1", "web2", "record", "trainer", "redis", "postgres", "prometheus", "grafana"}
    assert set(services) == usual | {"alertmanager"}
    assert {name for name, service in services.items() if "profiles" not in service} == usual
    for name, service in services.items():
        assert service.get("healthcheck"), name
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        limits = service["deploy"]["resources"].get("limits", {})
        assert limits.get("memory") or name == "trainer", name
    # Only the proxy and, on this machine alone, Grafana are reachable from outside.
    assert {name for name, service in services.items() if "ports" in service} == {"proxy", "grafana"}
    assert services["grafana"]["ports"] == ["127.0.0.1:3000:3000/tcp"]
    # Services that only show runs do not contain PyTorch.
    images = {name: (each["image"], each["build"]["target"]) for name, each in services.items() if "build" in each}
    slim = ("steersman-slim", "slim")
    assert images == {"web1": slim, "web2": slim, "record": slim, "trainer": ("steersman", "portal")}
    [device] = services["trainer"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    # Every secret comes from a file, in a folder that git ignores.
    assert not re.search(r"(PASSWORD|KEY)[^F:]*: ?['\"]?(?!/run/secrets/)\S", yaml.safe_dump(services))
    assert {Path(secret["file"]).parent.name for secret in told["secrets"].values()} == {"secrets"}
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.skipif(COMPOSE is None, reason="docker-compose is not installed")
@pytest.mark.parametrize("name", MUST_BE_SET)
def test_the_compose_file_says_what_must_be_set(name: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=f"Set {name}"):
        compose({other: value for other, value in MUST_BE_SET.items() if other != name}, tmp_path)


def compose(variables: dict[str, str], folder: Path) -> dict[str, Any]:
    """Return the compose file as docker-compose reads it. Raises AssertionError with its output."""
    # Ignore a developer's .env beside the file.
    (folder / "empty.env").touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STEERSMAN_")}
    done = subprocess.run(
        [str(COMPOSE), "-f", str(ROOT / "compose.yaml"), "--env-file", str(folder / "empty.env"), "config"],
        env=environment | variables, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = yaml.safe_load(done.stdout)
    return read


def sign_in(stack: Stack, user: str, password: str, host: str = "") -> urllib.request.OpenerDirector | None:
    """Return a browser that is logged in, or None if the portal refuses the login.

    The browser uses the address `host`, "" for the portal's own. Raises `urllib.error.HTTPError`.
    """
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    come_by = {"Host": f"{host}:{stack.port}"} if host else {}
    login = urllib.request.Request(f"{stack.address}/login/", headers=come_by)
    with browser.open(login, timeout=60) as page:
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.read().decode())
    assert found is not None
    body = urllib.parse.urlencode({"csrfmiddlewaretoken": found.group(1), "username": user, "password": password})
    with browser.open(login, data=body.encode(), timeout=60) as page:
        return None if page.geturl().endswith("/login/") else browser
