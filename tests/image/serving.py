"""Checks of the Dockerfile's targets once they serve."""

from __future__ import annotations

import re
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.image import buildah, stand_in
from tests.image.buildah import Failed
from tests.image.containers import USER, Container, started
from tests.support.stack import free_port, wait_for

SSH_PORT, LAB_PORT = 2222, 8888
STATE = "import sys; from runs.models import Run; print(Run.objects.get(pk=int({run})).state)"
TRAINING_TIMEOUT_S = 180
SLIM_MB = 500


class Unmoved(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, because the tests check the redirect itself."""

    def redirect_request(self, *arguments: object) -> None:
        return None


def asked(address: str, **headers: str) -> tuple[int, str, str]:
    """Return status, body and redirect target of a response."""
    request = urllib.request.Request(address, headers=headers)
    try:
        with urllib.request.build_opener(Unmoved).open(request, timeout=30) as answer:
            return answer.status, answer.read().decode(), ""
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers.get("Location", "")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def require(holds: object, what: str) -> None:
    """Raise `Failed` unless `holds`."""
    if not holds:
        raise Failed(what)


def wait_until_healthy(container: Container, port: int) -> None:
    """Wait until the image's health check passes."""

    def healthy() -> bool:
        container.check_running()
        return listens(port) and "status 200" in container.run("python", "deploy/health.py")

    wait_for(healthy, f"the portal\n{container.said()}", 120)


def check_portal(image: str, *, trains: bool = True) -> dict[str, object]:
    """Start the portal; log in, send a foreign host name, which it must refuse, and train a queued run.

    Raises `Failed`.
    """
    port = free_port()
    with started(image, STEERSMAN_PORT=str(port)) as container:
        wait_until_healthy(container, port)
        require(re.search(r"^login admin \S{16}$", container.said(), re.MULTILINE), "no login was printed")
        users = {process.uids().real for process in container.processes()}
        require(users == {USER}, f"processes of the container run as {users}")
        address = f"http://127.0.0.1:{port}/"
        status, page, _ = asked(f"{address}login/")
        require(status == 200 and "/static/" in page, f"the login page answers {status}")
        for style in re.findall(r'href="(/static/[^"]+\.css)"', page):
            require(asked(f"http://127.0.0.1:{port}{style}")[0] == 200, f"{style} is not in the image")
        status, page, _ = asked(f"{address}login/", Host="gpu1.example.org")
        require(status == 400 and "STEERSMAN_HOSTS=gpu1.example.org" in page, "a foreign name gets no explanation")
        state = train_queued(container) if trains else "left out"
        require(state in ("finished", "left out"), f"the queued run is {state}\n{container.said()[-2000:]}")
        return {"portal_user": USER, "portal_run": state}


def check_slim(image: str) -> dict[str, object]:
    """Start the portal without PyTorch; it must be small and must not train. Raises `Failed`."""
    check_portal(image, trains=False)
    beyond = buildah.size_mb(image) - buildah.size_mb(stand_in.BARE)
    require(beyond <= SLIM_MB, f"the slim portal adds {beyond} MB to its base")
    with Container(image) as container:
        told = container.run("sh", "-c", "python manage.py recipes 2>&1 || true")
        require("PyTorch is not installed here" in told, f"recipes says {told}")
    return {"slim_mb_beyond_base": beyond}


def train_queued(container: Container) -> str:
    """Queue a quick training in a container; return its final state."""
    create = "create_run --project lab --recipe digits --set epochs=2 --device cpu --queue --quiet"
    run_id = container.run("python", "manage.py", *create.split()).strip()
    shown = ["python", "manage.py", "shell", "-v", "0", "-c", STATE.format(run=run_id)]

    def ended() -> str:
        container.check_running()
        state = container.run(*shown).strip()
        return state if state in ("finished", "failed", "stopped") else ""

    return wait_for(ended, f"the end of run {run_id}", TRAINING_TIMEOUT_S)


def check_lab(image: str) -> dict[str, object]:
    """Start the workbench; log in by a key, fail to do so by a password, and reach JupyterLab through the tunnel.

    Raises `Failed`.
    """
    for port in (SSH_PORT, LAB_PORT):
        require(not listens(port), f"port {port} is in use on this machine: end what listens there, and try again")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        given = {"STEERSMAN_SSH_KEYS": key.with_suffix(".pub").read_text().strip(), "STEERSMAN_RECIPES": "a b:C"}
        with started(image, STEERSMAN_PORT=str(port), **given) as container:
            wait_until_healthy(container, port)
            wait_for(lambda: listens(SSH_PORT) and listens(LAB_PORT), f"SSH and JupyterLab\n{container.said()}", 120)
            found = check_shells(key)
            with tunnel(key) as lab:
                token = container.run("cat", "/data/lab/jupyter_token")
                status, page, _ = asked(f"{lab}/lab?token={token}")
                require(status == 200 and "JupyterLab" in page, f"JupyterLab answers {status} with the token")
                status, _, where = asked(f"{lab}/lab")
                require(status == 302 and "/login" in where, f"JupyterLab answers {status} without the token")
            return {**found, "lab_page": 200, "lab_without_token": status}


def ssh(key: Path, *options: str) -> list[str]:
    known = f"UserKnownHostsFile={key.parent / 'known_hosts'}"
    always = ["-o", known, "-o", "StrictHostKeyChecking=accept-new", "-o", "LogLevel=ERROR", "-F", "none"]
    return ["ssh", "-p", str(SSH_PORT), *always, *options, "steersman@127.0.0.1"]


def check_shells(key: Path) -> dict[str, object]:
    """Raise `Failed` unless a key opens a shell in which manage.py works, and a password opens none."""
    by_key = ["-i", str(key), "-o", "BatchMode=yes"]
    told = 'pwd; command -v python; echo "$STEERSMAN_RECIPES"; python manage.py recipes --help | head -1'
    for what in ([told], ["bash", "-lc", f"'{told}'"]):
        done = subprocess.run([*ssh(key, *by_key), *what], capture_output=True, text=True, timeout=120)
        lines = done.stdout.splitlines()
        require(lines[:3] == ["/app", "/opt/steersman/bin/python", "a b:C"], f"a shell says {lines} {done.stderr}")
        require(lines[3:] and lines[3].startswith("usage:"), f"manage.py says {lines[3:]} {done.stderr}")
    password = ["-o", "PubkeyAuthentication=no", "-o", "PreferredAuthentications=password,keyboard-interactive"]
    refused = subprocess.run([*ssh(key, *password), "true"], capture_output=True, text=True, timeout=60)
    require(refused.returncode == 255 and "(publickey)" in refused.stderr, f"a password: {refused.stderr}")
    return {"ssh_key": "in", "ssh_password": "refused"}


@contextmanager
def tunnel(key: Path) -> Iterator[str]:
    """Keep a tunnel to JupyterLab open; yields its local address."""
    port = free_port()
    way = ["-i", str(key), "-o", "BatchMode=yes", "-N", "-L", f"{port}:127.0.0.1:{LAB_PORT}"]
    process = subprocess.Popen(ssh(key, *way))
    try:
        wait_for(lambda: listens(port), "the tunnel")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
