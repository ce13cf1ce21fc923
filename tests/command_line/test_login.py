"""`steersman login` and `logout`: the token is checked, stored for its owner alone, and never shown."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

import steersman
from tests.command_line.answering import answering
from tests.support.stack import ROOT, free_port
from tests.support.tls.certificate import write_certificate

TOKEN = "stm_Tq8vZ2xW4nR6yB1mK3jH5gF7dS9aP0oL"
NOT_VALID = {"error": "Field required", "field": "key"}
PATIENCE_S = 60.0


def environment(folder: Path, **variables: str) -> dict[str, str]:
    ours = ("STEERSMAN_", "XDG_", "SSL_CERT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"XDG_CONFIG_HOME": str(folder / "config"), "NO_PROXY": "*", **variables}


def command(folder: Path, *words: str, typed: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "steersman", *words]
    return subprocess.run(
        program, cwd=ROOT, env=environment(folder, **variables), input=typed, capture_output=True, text=True,
        timeout=PATIENCE_S,
    )  # fmt: skip


def stored(folder: Path) -> list[dict[str, str]]:
    path = folder / "config" / "steersman" / "logins.json"
    return json.loads(path.read_text())["portals"] if path.exists() else []


def log_in(folder: Path, address: str, token: str = TOKEN, **variables: str) -> subprocess.CompletedProcess[str]:
    return command(folder, "login", address, STEERSMAN_TOKEN=token, **variables)


def test_a_token_that_the_portal_knows_is_stored_for_its_owner_alone(tmp_path: Path):
    with answering(422, NOT_VALID) as portal:
        done = log_in(tmp_path, f"{portal.address}/lab/")
    assert done.returncode == 0, done.stderr
    assert stored(tmp_path) == [{"address": f"{portal.address}/lab", "token": TOKEN}]
    path = tmp_path / "config" / "steersman" / "logins.json"
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    (asked,) = portal.asked
    assert asked["path"] == "/lab/api/runs/" and asked["Authorization"] == f"Bearer {TOKEN}"
    assert asked["Steersman-Version"] == steersman.__version__
    assert TOKEN not in done.stdout + done.stderr


def test_several_portals_are_kept_and_one_is_logged_out(tmp_path: Path):
    with answering(422, NOT_VALID) as first, answering(422, NOT_VALID) as second:
        for portal in (first, second, first):
            assert log_in(tmp_path, portal.address).returncode == 0
        assert [each["address"] for each in stored(tmp_path)] == [first.address, second.address]
        assert command(tmp_path, "logout").stdout.startswith(f"Logged out of {first.address}.")
        assert [each["address"] for each in stored(tmp_path)] == [second.address]
        again = command(tmp_path, "logout", first.address)
        assert again.returncode == 2 and f"This machine has logins for {second.address}" in again.stderr
    assert command(tmp_path, "logout", second.address).returncode == 0
    assert "There is no login on this machine." in command(tmp_path, "logout").stderr


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (
            401,
            {"error": "no", "field": "Authorization"},
            "rejected this token, which is unknown or was revoked: make one",
        ),
        (403, {"error": "Only a token with the scope train.", "field": "Authorization"}, "refuses: Only a token with"),
        (404, "<h1>nothing</h1>", "No Steersman portal answers at"),
        (405, "", "accepts no trainings from other hosts"),
        (200, "<h1>Welcome to nginx</h1>", "No Steersman portal answers at"),
        (426, {"error": "Install version 7 of steersman.", "field": ""}, "refuses: Install version 7 of steersman."),
        (503, {"error": "The database is away.", "field": ""}, "answers with status 503: The database is away."),
    ],
)
def test_a_token_that_is_refused_is_not_stored(tmp_path: Path, status: int, answer: object, words: str):
    with answering(status, answer) as portal:
        done = log_in(tmp_path, portal.address)
    assert done.returncode == 1 and words in done.stderr and stored(tmp_path) == []
    assert "Traceback" not in done.stderr and TOKEN not in done.stderr


def test_the_token_goes_to_no_other_address(tmp_path: Path):
    with answering(422, NOT_VALID) as other, answering(302, "", f"{other.address}/api/runs/") as portal:
        done = log_in(tmp_path, portal.address)
        assert done.returncode == 1 and f"redirects to {other.address}/api/runs/" in done.stderr
        assert other.asked == []


def test_each_way_of_not_reaching_a_portal_has_its_remedy(tmp_path: Path):
    closed = f"http://127.0.0.1:{free_port()}"
    refused = log_in(tmp_path, closed)
    assert "cannot be reached (Connection refused): check the address" in refused.stderr
    absent = log_in(tmp_path, "https://portal.invalid")
    assert "The host of https://portal.invalid is not found" in absent.stderr
    with answering(422, NOT_VALID) as portal:
        plain = log_in(tmp_path, portal.address.replace("http:", "https:"))
        assert "does not answer with TLS" in plain.stderr and "http://" in plain.stderr
    proxied = log_in(tmp_path, "http://steersman.example.org", http_proxy=closed, NO_PROXY="")
    assert "cannot be reached (Connection refused)" in proxied.stderr
    assert {done.returncode for done in (refused, absent, plain, proxied)} == {1} and stored(tmp_path) == []


def test_a_certificate_of_an_own_authority_is_trusted_once_it_is_named(tmp_path: Path):
    write_certificate(tmp_path / "tls", "localhost")
    with answering(422, NOT_VALID, tls=tmp_path / "tls") as portal:
        address = portal.address.replace("http:", "https:")
        strange = log_in(tmp_path, address)
        assert strange.returncode == 1 and "is not trusted" in strange.stderr and "SSL_CERT_FILE" in strange.stderr
        known = log_in(tmp_path, address, SSL_CERT_FILE=str(tmp_path / "tls" / "fullchain.pem"))
        assert known.returncode == 0, known.stderr


@pytest.mark.parametrize(
    "address", ["steersman.example.org", "ftp://host", "https://", "https://a:b@host", "https://host:x", "https://h?q"]
)
def test_what_is_no_address_is_refused(tmp_path: Path, address: str):
    done = log_in(tmp_path, address)
    assert done.returncode == 2 and done.stderr.startswith("steersman: portal: ") and "https://" in done.stderr


def test_the_token_comes_from_a_file_or_the_input(tmp_path: Path):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with answering(422, NOT_VALID) as portal:
        assert command(tmp_path, "login", portal.address, "--token-file", str(tmp_path / "token")).returncode == 0
        assert stored(tmp_path)[0]["token"] == TOKEN
        assert command(tmp_path, "login", portal.address, "--token-file", "-", typed="stm_other\n").returncode == 0
        assert stored(tmp_path)[0]["token"] == "stm_other"
        asked = len(portal.asked)
        missing = command(tmp_path, "login", portal.address, "--token-file", str(tmp_path / "none"))
        assert missing.returncode == 2 and "none cannot be read (No such file or directory)." in missing.stderr
        empty = command(tmp_path, "login", portal.address, "--token-file", "-", typed="two words\n")
        assert empty.returncode == 2 and "token-file: - has no token" in empty.stderr
        nobody = command(tmp_path, "login", portal.address)
        assert nobody.returncode == 2 and "Give --token-file FILE, or set STEERSMAN_TOKEN" in nobody.stderr
        assert len(portal.asked) == asked


def test_a_person_is_asked_for_the_token_and_it_is_not_shown(tmp_path: Path):
    with answering(422, NOT_VALID) as portal:
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(ROOT)
            program = [sys.executable, "-m", "steersman", "login", portal.address]
            os.execve(sys.executable, program, environment(tmp_path))
        shown = read_until(terminal, b"(with the scope train): ")
        os.write(terminal, f"{TOKEN}\n".encode())
        shown += read_until(terminal, b"logins.json")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        os.close(terminal)
    assert b"Token for " in shown and TOKEN.encode() not in shown
    assert stored(tmp_path) == [{"address": portal.address, "token": TOKEN}]


def read_until(terminal: int, words: bytes) -> bytes:
    shown = b""
    until = time.monotonic() + PATIENCE_S
    while words not in shown:
        assert select.select([terminal], [], [], until - time.monotonic())[0], f"it showed only {shown!r}"
        shown += os.read(terminal, 4096)
    return shown


def test_a_damaged_file_is_named_and_one_that_others_read_is_closed(tmp_path: Path):
    path = tmp_path / "config" / "steersman" / "logins.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with answering(422, NOT_VALID) as portal:
        damaged = log_in(tmp_path, portal.address)
        assert damaged.returncode == 1 and f"{path} cannot be read" in damaged.stderr and path.read_text() == "{"
        path.write_text(json.dumps({"portals": [{"address": "https://other", "token": "stm_o"}]}))
        path.chmod(0o644)
        assert log_in(tmp_path, portal.address).returncode == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each["address"] for each in stored(tmp_path)] == [portal.address, "https://other"]


def test_a_token_that_would_travel_readable_is_warned_of(tmp_path: Path):
    done = log_in(tmp_path, "http://portal.invalid")
    assert "has no TLS: others on the network can read the token." in done.stderr
    with answering(422, NOT_VALID) as portal:
        assert "TLS" not in log_in(tmp_path, portal.address).stderr
