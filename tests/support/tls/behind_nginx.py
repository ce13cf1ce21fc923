"""A stack behind nginx with TLS, with the configuration of deploy/nginx on free ports and a certificate of its own."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import urllib.request
from typing import Any

from tests.support.prometheus import replaced
from tests.support.stack import ROOT, Stack, free_port, wait_for
from tests.support.tls.certificate import write_certificate

NAME = "localhost"
CONFIGURATION = ROOT / "deploy" / "nginx"


def nginx_program() -> str | None:
    return shutil.which("nginx", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))


class BehindNginx(Stack):
    """Its `address` is that of the proxy. Clients need SSL_CERT_FILE=`certificate`.

    Without `upgrades`, the proxy lets no WebSocket through.
    """

    def __init__(self, prefix: str = "", *, upgrades: bool = True, **variables: str) -> None:
        self._prefix, self._upgrades = prefix, upgrades
        self._proxy_port, self._record_port = free_port(), free_port()
        self._proxy: subprocess.Popen[bytes] | None = None
        super().__init__(
            STEERSMAN_TLS="1", STEERSMAN_HOSTS=f"{NAME},127.0.0.1", STEERSMAN_PREFIX=prefix,
            STEERSMAN_PUBLIC_URL=self.address, **variables,
        )  # fmt: skip
        write_certificate(self.folder / "ssl", NAME)
        self.certificate = str(self.folder / "ssl" / "fullchain.pem")

    @property
    def address(self) -> str:
        return f"https://{NAME}:{self._proxy_port}{self._prefix}"

    def start_record(self, *words: str) -> None:
        super().start_record("--port", str(self._record_port), *words)

    def wait_for_web(self) -> None:
        def answers(address: str) -> bool:
            trusting = ssl.create_default_context(cafile=self.certificate)
            try:
                with urllib.request.urlopen(f"{address}/readyz", timeout=60, context=trusting):
                    return True
            except OSError:
                return False

        wait_for(lambda: answers(f"http://127.0.0.1:{self.port}{self._prefix}"), lambda: f"the portal\n{self.log()}")
        if self._proxy is None:
            self._start_proxy()
        wait_for(lambda: answers(self.address), lambda: f"the proxy\n{self.log()}")

    def _start_proxy(self) -> None:
        site: tuple[tuple[str, str], ...] = (
            ("listen 80;", f"listen 127.0.0.1:{free_port()};"),
            ("listen 443 ssl;", f"listen 127.0.0.1:{self._proxy_port} ssl;"),
            ("/etc/ssl/steersman", str(self.folder / "ssl")),
            ("/var/log/nginx", str(self.folder)),
        )
        if not self._upgrades:
            site += (("proxy_set_header Upgrade $http_upgrade;", 'proxy_set_header Upgrade "";'),)
        portals = (
            ("    server 127.0.0.1:8766 max_fails=0;\n", ""),
            ("127.0.0.1:8765", f"127.0.0.1:{self.port}"),
            ("127.0.0.1:8764", f"127.0.0.1:{self._record_port}"),
        )
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{kind}_temp_path {self.folder / f'nginx_{kind}'};\n" for kind in kinds)
        # If root runs it, its workers would be another user without access to the folder.
        user = "user root;\n" if os.geteuid() == 0 else ""
        whole = (
            ("worker_processes 4;", f"{user}daemon off;\nworker_processes 1;"),
            ("/var/log/nginx", str(self.folder)),
            ("/run/nginx.pid", str(self.folder / "nginx.pid")),
            ("include /etc/nginx/conf.d/*.conf;", f"{temporary}include {self.folder}/conf.d/*.conf;"),
        )
        changed: tuple[tuple[str, str, Any], ...] = (
            ("conf.d/steersman.conf", "steersman.conf", site),
            ("conf.d/portals.conf", "portals.conf", portals),
            ("nginx.conf", "nginx.conf", whole),
        )
        (self.folder / "conf.d").mkdir()
        for target, source, changes in changed:
            (self.folder / target).write_text(replaced((CONFIGURATION / source).read_text(), changes))
        program = nginx_program()
        assert program, "nginx is missing: apt-get install nginx"
        with (self.folder / "nginx.log").open("ab") as log:
            self._proxy = subprocess.Popen(
                [program, "-c", str(self.folder / "nginx.conf"), "-e", str(self.folder / "nginx_errors.log")],
                stdout=log, stderr=log,
            )  # fmt: skip

    def close(self) -> None:
        if self._proxy is not None:
            self._proxy.terminate()
            self._proxy.wait()
        super().close()
