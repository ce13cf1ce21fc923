"""compose.yaml without Docker: the same processes, variables and files, on free ports of this machine."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import yaml

from monitor_site.serving.embedded_server import find_server
from tests.repository.test_slim_image import WITHOUT
from tests.support.prometheus import prometheus_command, replaced
from tests.support.stack import ROOT, Stack, free_port, wait_for
from tests.support.tls.certificate import write_certificate

sys.path.insert(0, str(ROOT / "scripts"))
import postgres  # noqa: E402  a script, no package

NAME = "localhost"
PORTALS = ("web1", "web2")
SERVICES = ("postgres", "redis", *PORTALS, "trainer", "proxy", "prometheus")
DEPLOY = ROOT / "deploy"
DEBIAN_FOLDERS = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])


class Production:
    """The services of compose.yaml except Grafana. Use it as a context manager, which cleans up."""

    def __init__(self) -> None:
        self.services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
        self.stack = Stack(STEERSMAN_DATABASE_URL="set below")
        self.folder = self.stack.folder
        self.ports = {name: free_port() for name in (*SERVICES, "http")}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.passwords = {name: secrets.token_urlsafe(24) for name in ("redis_password", "secret_key")}
        self.postgres = postgres.Server()
        # The image of the portals has no PyTorch.
        self._slim = self.folder / "slim"
        self._slim.mkdir()
        (self._slim / "sitecustomize.py").write_text(WITHOUT)
        self._make_secrets()
        write_certificate(self.folder / "ssl", NAME)
        self.stack.environment |= self.variables()

    @property
    def address(self) -> str:
        return f"https://{NAME}:{self.ports['proxy']}"

    @property
    def trusting(self) -> ssl.SSLContext:
        """A client's TLS context that trusts only the certificate of the proxy."""
        return ssl.create_default_context(cafile=str(self.folder / "ssl" / "fullchain.pem"))

    def __enter__(self) -> Production:
        try:
            self.postgres.__enter__()
            for name in SERVICES[1:]:
                self.start(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for name in reversed(SERVICES):
            self.stop(name)
        self.stack.close()
        self.postgres.__exit__()

    def start(self, name: str) -> None:
        """Start a service and return once its health check passes."""
        if name == "postgres":
            self.postgres.start()
            return
        commands: dict[str, Callable[[], list[str]]] = {
            "redis": self._redis, "trainer": lambda: [str(DEPLOY / "entry.sh"), *self.services["trainer"]["command"]],
            "proxy": self._proxy, "prometheus": self._prometheus,
        }  # fmt: skip
        command = commands.get(name, lambda: [str(DEPLOY / "entry.sh"), *self.services[name]["command"]])()
        own = {
            "STEERSMAN_PORT": str(self.ports[name]), "STEERSMAN_BIND": "127.0.0.1", "PYTHONPATH": str(self._slim)
        } if name in PORTALS else {}  # fmt: skip
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, env=self.stack.environment | own | {"PATH": path}, stdout=log, stderr=log, cwd="/",
                start_new_session=True,
            )  # fmt: skip
        if name in PORTALS:
            self._wait(name, f"http://127.0.0.1:{self.ports[name]}/readyz")
        elif name == "proxy":
            self._wait(name, f"{self.address}/healthz")
        elif name == "prometheus":
            self._wait(name, f"http://127.0.0.1:{self.ports[name]}/-/healthy")

    def stop(self, name: str, *, kill: bool = False) -> None:
        """End a service, as `docker compose stop` does, or with `kill` immediately."""
        if name == "postgres":
            self.postgres.stop()
            return
        process = self.processes.pop(name, None)
        if process is None:
            return
        if kill:
            os.killpg(process.pid, signal.SIGKILL)  # like the end of a container: none of its workers continues
        else:
            process.terminate()
        process.wait(60)

    def variables(self) -> dict[str, str]:
        """Return the environment of the portals and the trainer, with addresses of this machine."""
        given = dict(self.services["web1"]["environment"])
        here = {
            "STEERSMAN_DATABASE_URL": ("postgres:5432/steersman", f"127.0.0.1:{self.postgres.port}/postgres"),
            "STEERSMAN_REDIS_URL": ("redis:6379", f"127.0.0.1:{self.ports['redis']}"),
            "STEERSMAN_METRICS_FROM": ("172.30.87.2/32", "127.0.0.1/32"),
        }
        for name, (told, is_here) in here.items():
            assert told in given[name], name
            given[name] = given[name].replace(told, is_here)
        given["STEERSMAN_DATABASE_URL"] = given["STEERSMAN_DATABASE_URL"].replace("steersman@", f"{postgres.USER}@")
        assert ",proxy,localhost" in given["STEERSMAN_HOSTS"]
        given["STEERSMAN_HOSTS"] = NAME
        given["STEERSMAN_PUBLIC_URL"] = self.address
        for name in ("STEERSMAN_ORIGINS", "STEERSMAN_RECIPES"):
            given[name] = ""
        given["XDG_CACHE_HOME"] = str(self.folder / "cache")
        return {name: value.replace("/run/secrets/", f"{self.folder / 'secrets'}/") for name, value in given.items()}

    def reload_proxy(self) -> None:
        """Make the proxy read its files again, as after a new certificate; return once no old worker is left."""
        before = psutil.Process(self.processes["proxy"].pid).children()
        assert before
        subprocess.run([*self._nginx(), "-s", "reload"], check=True, capture_output=True, timeout=60)
        wait_for(lambda: not any(worker.is_running() for worker in before), "the end of the workers of before")

    def portals_in_access_log(self) -> set[str]:
        """Return the portals in the proxy's log that answered a page."""
        text = (self.folder / "access.log").read_text()
        asked = re.findall(r" 200 \d+ portal 127\.0\.0\.1:(\d+) status 200 ", text)
        return {name for name in PORTALS if str(self.ports[name]) in asked}

    def log(self) -> str:
        return self.stack.log()

    def _make_secrets(self) -> None:
        """Create them as docs/deployment.md does, with a line break at the end of each."""
        (self.folder / "secrets").mkdir(mode=0o700)
        for name, text in {**self.passwords, "postgres_password": self.postgres.password}.items():
            (self.folder / "secrets" / name).write_text(f"{text}\n")

    def _redis(self) -> list[str]:
        """Return the command of compose.yaml, with the program, the secret and the port on this machine."""
        shell, option, line = self.services["redis"]["command"]
        changes = (
            ("$$", "$"), ("/run/secrets", str(self.folder / "secrets")), ("valkey-server", str(find_server().path)),
            ("appendonly no;", f"appendonly no; echo bind 127.0.0.1; echo port {self.ports['redis']};"),
        )  # fmt: skip
        return [shell, option, replaced(line, changes)]

    def _nginx(self) -> list[str]:
        program = shutil.which("nginx", path=DEBIAN_FOLDERS)
        assert program, "nginx is missing: apt-get install nginx"
        return [program, "-c", str(self.folder / "nginx.conf"), "-e", str(self.folder / "nginx_errors.log")]

    def _proxy(self) -> list[str]:
        changes = (
            ("listen 80;", f"listen 127.0.0.1:{self.ports['http']};"),
            ("listen 443 ssl;", f"listen 127.0.0.1:{self.ports['proxy']} ssl;"),
            ("/etc/ssl/steersman", str(self.folder / "ssl")),
            ("/var/log/nginx", str(self.folder)),
        )
        site = replaced((DEPLOY / "nginx" / "steersman.conf").read_text(), changes)
        included = self.folder / "conf.d"
        included.mkdir(exist_ok=True)
        (included / "steersman.conf").write_text(site)
        portals = tuple(
            (f"127.0.0.1:{told}", f"127.0.0.1:{self.ports[name]}")
            for told, name in zip((8765, 8766), PORTALS, strict=True)
        )
        (included / "portals.conf").write_text(replaced((DEPLOY / "nginx" / "portals.conf").read_text(), portals))
        temporary = "".join(
            f"{kind}_temp_path {self.folder / f'nginx_{kind}'};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        # If root runs it, as on Debian, its workers would be another user without access to the folder.
        user = "user root;\n" if os.geteuid() == 0 else ""
        whole = (
            ("worker_processes 4;", f"{user}daemon off;\nworker_processes 4;"),
            ("/var/log/nginx", str(self.folder)), ("/run/nginx.pid", str(self.folder / "nginx.pid")),
            ("include /etc/nginx/conf.d/*.conf;", f"{temporary}include {self.folder}/conf.d/*.conf;"),
        )  # fmt: skip
        (self.folder / "nginx.conf").write_text(replaced((DEPLOY / "nginx" / "nginx.conf").read_text(), whole))
        return self._nginx()

    def _prometheus(self) -> list[str]:
        program = shutil.which("prometheus")
        assert program, "prometheus is missing: apt-get install prometheus"
        told = (DEPLOY / "prometheus" / "prometheus_compose.yml").read_text()
        changes = (("proxy:443", f"{NAME}:{self.ports['proxy']}"), ("15s", "1s"))
        (self.folder / "prometheus.yml").write_text(replaced(told, changes))
        shutil.copy(DEPLOY / "prometheus" / "rules.yml", self.folder)
        return prometheus_command(program, self.folder, self.ports["prometheus"])

    def _wait(self, name: str, address: str) -> None:
        def answers() -> bool:
            assert self.processes[name].poll() is None, self.log()
            try:
                context = self.trusting if address.startswith("https:") else None
                with urllib.request.urlopen(address, timeout=60, context=context):
                    return True
            except OSError:
                return False

        try:
            wait_for(answers, name)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None
