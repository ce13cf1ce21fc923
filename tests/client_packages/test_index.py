"""The package index of the portal: what pip installs from it behind a prefix and TLS, and what it never serves."""

from __future__ import annotations

import hashlib
import json
import shutil
import ssl
import subprocess
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

import steersman
from tests.client_packages.conftest import CleanPython
from tests.support.stack import Stack, free_port, wait_for
from tests.support.tls.certificate import write_certificate

JSON = "application/vnd.pypi.simple.v1+json"
PREFIX = "/lab/steersman"
# As in deploy/nginx, with the folders of a test.
PROXY = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/ssl/fullchain.pem;
        ssl_certificate_key {folder}/ssl/privkey.pem;
        location {prefix}/ {{
            proxy_pass http://127.0.0.1:{portal};
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-Proto https;
        }}
    }}
}}
"""


class SecurePortal:
    """A portal with STEERSMAN_TLS under a prefix, behind nginx; `certificate` is that of its authority."""

    def __init__(self, packages: Path) -> None:
        self.stack = Stack(STEERSMAN_PREFIX=PREFIX, STEERSMAN_TLS="1", STEERSMAN_CLIENT_PACKAGES=str(packages))
        self.port = free_port()
        self.certificate = self.stack.folder / "ssl" / "fullchain.pem"
        self.index = f"https://127.0.0.1:{self.port}{PREFIX}/client/simple/"
        self._proxy: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> SecurePortal:
        folder = self.stack.folder
        write_certificate(folder / "ssl", "localhost")
        text = PROXY.format(folder=folder, port=self.port, prefix=PREFIX, portal=self.stack.port)
        (folder / "nginx.conf").write_text(text)
        self.stack.migrate()
        serve = self.stack.command("serve_portal", "--port", str(self.stack.port))
        with (folder / "web.log").open("ab") as log:
            self.stack.web = subprocess.Popen(serve, env=self.stack.environment, stdout=log, stderr=log)
            nginx = [shutil.which("nginx", path="/usr/sbin:/usr/bin") or "nginx", "-c", str(folder / "nginx.conf")]
            self._proxy = subprocess.Popen(nginx, stdout=log, stderr=log)
        wait_for(self._answers, lambda: f"the portal behind nginx\n{self.stack.log()}")
        return self

    def __exit__(self, *error: object) -> None:
        if self._proxy is not None:
            self._proxy.terminate()
            self._proxy.wait(30)
        self.stack.close()

    def _answers(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.certificate))
        try:
            with urllib.request.urlopen(self.index, timeout=30, context=context):
                return True
        except OSError:
            return False


@pytest.fixture
def index(client_packages: Path, tmp_path: Path, settings: Any) -> Iterator[Path]:
    """The folder that the index of this process serves: a copy, to which a test may add files."""
    folder = tmp_path / "served"
    shutil.copytree(client_packages, folder)
    settings.STEERSMAN_CLIENT_PACKAGES = folder
    yield folder


def ask(path: str, accept: str = "*/*", **headers: str) -> Any:
    return Client(headers={"accept": accept, **headers}).get(path)


def files_of(project: str) -> dict[str, dict[str, Any]]:
    found = json.loads(ask(f"/client/simple/{project}/", JSON).content)
    return {file["filename"]: file for file in found["files"]}


def test_one_command_of_pip_installs_it_and_its_extra_without_internet(
    client_packages: Path, clean_python: Callable[[str], CleanPython]
):
    clean = clean_python("host")
    with SecurePortal(client_packages) as portal:
        install = ("-m", "pip", "install", "--index-url", portal.index, "--cert", str(portal.certificate))
        said = clean.run(*install, "steersman[agent]").stdout
        assert portal.index in said
        unknown = clean.run(*install, "no-such-package", check=False)
        assert unknown.returncode == 1 and "No matching distribution" in unknown.stderr
    program = "import steersman, steersman.agent.machine.host; print(steersman.__version__)"
    assert clean.run("-c", program).stdout.strip() == steersman.__version__
    needed = clean.run("-m", "pip", "list", "--format", "freeze").stdout
    assert {"msgspec", "psutil", "pynvml", "nvidia-ml-py"} <= {line.partition("==")[0] for line in needed.split()}


def test_it_tells_hash_size_and_python_of_each_file_in_both_forms(index: Path):
    assert json.loads(ask("/client/simple/", JSON).content)["projects"] == [
        {"name": name} for name in ("msgspec", "nvidia-ml-py", "psutil", "pynvml", "steersman", "websockets")
    ]
    files = files_of("steersman")
    assert len(files) == 2 and all(file["requires-python"] == ">=3.10" for file in files.values())
    page = ask("/client/simple/steersman/")
    assert page["Content-Type"].startswith("text/html") and "Accept" in page["Vary"]
    for name, file in files.items():
        content = (index / name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        assert (file["hashes"], file["size"]) == ({"sha256": digest}, len(content))
        link = f'href="../../files/{name}#sha256={digest}" data-requires-python="&gt;=3.10"'
        assert link in page.content.decode()
        given = ask(f"/client/files/{name}")
        assert given.content == content and given["ETag"] == f'"{digest}"'
        assert ask(f"/client/files/{name}", **{"if-none-match": given["ETag"]}).status_code == 304


@pytest.mark.parametrize(
    ("accept", "given"),
    [
        ("text/html", "text/html"),
        ("*/*", "text/html"),
        ("image/png", "text/html"),
        ("application/vnd.pypi.simple.v1+html", "application/vnd.pypi.simple.v1+html"),
        (f"{JSON}, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01", JSON),
    ],
)
def test_it_gives_the_form_that_is_asked_for(index: Path, accept: str, given: str):
    for path in ("/client/simple/", "/client/simple/psutil/"):
        assert ask(path, accept)["Content-Type"].startswith(given)


def test_another_spelling_of_a_name_leads_to_the_right_one(index: Path):
    answer = ask("/client/simple/NVIDIA_ml.py/")
    assert (answer.status_code, answer["Location"]) == (302, "/client/simple/nvidia-ml-py/")


def test_it_serves_what_the_folder_has_now_and_leaves_out_what_is_no_package(index: Path, tmp_path: Path):
    secret = tmp_path / "secret.whl"
    shutil.copy(next(index.glob("psutil-*.whl")), secret)
    (index / "linked-1.0-py3-none-any.whl").symlink_to(secret)
    (index / "cut-1.0-py3-none-any.whl").write_bytes(secret.read_bytes()[:1000])
    (index / "no name.whl").write_bytes(secret.read_bytes())
    (index / "empty-1.0.tar.gz").touch()
    with zipfile.ZipFile(index / "bare-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("bare.py", "")
    (index / "notes.txt").write_text("secret")
    (index / ".steersman-0.2.0-py3-none-any.whl.new").write_bytes(b"half")
    projects = json.loads(ask("/client/simple/", JSON).content)["projects"]
    assert [project["name"] for project in projects] == [
        "msgspec",
        "nvidia-ml-py",
        "psutil",
        "pynvml",
        "steersman",
        "websockets",
    ]
    for name in ("linked-1.0-py3-none-any.whl", "cut-1.0-py3-none-any.whl", "notes.txt"):
        assert ask(f"/client/files/{name}").status_code == 404
    next(index.glob("psutil-*.whl")).unlink()
    assert ask("/client/simple/psutil/").status_code == 404


@pytest.mark.parametrize(
    "name", ["../secret.whl", "..%2Fsecret.whl", "%2e%2e/secret.whl", "/etc/passwd", "%2Fetc%2Fpasswd", "..", "%00.whl"]
)
def test_no_address_leads_out_of_the_folder(index: Path, name: str):
    (index.parent / "secret.whl").write_bytes(b"secret")
    answer = ask(f"/client/files/{name}")
    assert answer.status_code == 404 and b"secret" not in answer.content.replace(b"secret.whl", b"")


def test_an_index_without_packages_says_what_to_do(settings: Any, tmp_path: Path):
    for folder in (tmp_path, tmp_path / "none"):
        settings.STEERSMAN_CLIENT_PACKAGES = folder
        assert "make client" in ask("/client/simple/").content.decode()
        assert json.loads(ask("/client/simple/", JSON).content)["projects"] == []
        missing = ask("/client/simple/steersman/")
        assert missing.status_code == 404 and "make client" in missing.content.decode()


def test_it_is_only_read(index: Path):
    for path in ("/client/simple/", "/client/simple/steersman/", "/client/files/notes.txt"):
        assert Client().post(path).status_code == 405
