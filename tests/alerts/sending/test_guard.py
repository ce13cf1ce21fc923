"""What a sending process can reach: addresses in all spellings, names, redirects, programs."""

from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import ip_network

import pytest

from runs.alerts.sending import guard
from tests.support.stack import ROOT

_SPELLED = """
0.0.0.0 10.1.2.3 100.64.0.1 127.0.0.1 127.8.8.8 169.254.169.254 172.16.0.1 192.168.1.1 198.18.0.1 192.0.2.1 224.0.0.1
255.255.255.255 240.0.0.1 :: ::1 fe80::1 fe80::1%eth0 fc00::1 fd12::1 ff02::1 fec0::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1
::ffff:7f00:1 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b:1::1 2002:7f00:1:: 2002:a00:1:: 2001:0:1::1
2001:db8::1 3fff::1 168.63.129.16 ::ffff:168.63.129.16 not-an-address
"""
INSIDE = _SPELLED.split()
OUTSIDE = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
PROGRAM = """
import json, os, socket, subprocess, sys
sys.path.insert(0, {root!r})
from ipaddress import ip_network
from runs.alerts.sending import guard
guard.install([ip_network(each) for each in {networks!r}])
outcomes = {{}}
def tried(name, what):
    guard.begin()
    try:
        what()
        outcomes[name] = "done"
    except guard.Refused:
        outcomes[name] = "refused"
    except Exception as error:
        outcomes[name] = "refused" if guard.was_refused() else type(error).__name__
{body}
print(json.dumps(outcomes))
"""


def outcomes(body: str, networks: tuple[str, ...] = ()) -> dict[str, str]:
    """Run `body` in a separate, guarded process, because a hook cannot be removed."""
    program = PROGRAM.format(root=str(ROOT), networks=list(networks), body=body)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_is_told_by_any_spelling(address: str) -> None:
    assert not guard.is_outside(address)


@pytest.mark.parametrize("address", OUTSIDE)
def test_a_public_address_is_outside(address: str) -> None:
    assert guard.is_outside(address)


def test_a_network_that_is_allowed_is_reached_and_no_other() -> None:
    networks = [ip_network("10.1.0.0/16"), ip_network("fd00::/8")]
    assert guard.is_outside("10.1.2.3", networks)
    assert guard.is_outside("::ffff:10.1.2.3", networks)
    assert guard.is_outside("fd12::1", networks)
    assert not guard.is_outside("10.2.0.1", networks)


def test_an_address_of_this_host_is_inside_though_it_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_is_own", lambda address: str(address) == "8.8.8.8")
    assert not guard.is_outside("8.8.8.8")
    assert not guard.is_outside("::ffff:8.8.8.8")


def test_a_guarded_process_makes_no_connection_inside() -> None:
    body = """
listening = socket.create_server(("127.0.0.1", 0))
port = listening.getsockname()[1]
tried("address", lambda: socket.create_connection(("127.0.0.1", port)))
tried("name", lambda: socket.create_connection(("localhost", port)))
tried("mapped", lambda: socket.socket(socket.AF_INET6).connect(("::ffff:127.0.0.1", port)))
tried("number", lambda: socket.create_connection(("2130706433", port)))
tried("non-blocking", lambda: socket.socket().connect_ex(("127.0.0.1", port)))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
tried("sendto", lambda: udp.sendto(b"x", ("127.0.0.1", port)))
tried("sendmsg", lambda: udp.sendmsg([b"x"], [], 0, ("127.0.0.1", port)))
tried("local socket", lambda: socket.socket(socket.AF_UNIX).connect("/tmp/anything"))
tried("program", lambda: subprocess.run(["true"]))
tried("shell", lambda: os.system("true"))
tried("fork", os.fork)
import requests
tried("requests", lambda: requests.get("http://127.0.0.1:%d" % port, timeout=5))
"""
    assert set(outcomes(body).values()) == {"refused"}


def test_a_redirect_inside_is_refused_where_it_leads() -> None:
    body = """
import http.server, threading, requests
class Redirects(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(302)
        self.send_header("Location", "http://127.0.0.2:1/")
        self.end_headers()
    def log_message(self, *arguments): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Redirects)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = "http://127.0.0.1:%d/" % server.server_port
tried("first", lambda: requests.get(address, timeout=5, allow_redirects=False))
tried("followed", lambda: requests.get(address, timeout=5))
"""
    assert outcomes(body, ("127.0.0.1/32",)) == {"first": "done", "followed": "refused"}


def test_the_installations_own_server_is_reached_on_its_port_while_it_is_allowed() -> None:
    body = """
own, other = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
def connect(server): socket.create_connection(server.getsockname(), timeout=5).close()
with guard.allowing("localhost", own.getsockname()[1]):
    tried("own", lambda: connect(own))
    tried("another port", lambda: connect(other))
tried("later", lambda: connect(own))
"""
    assert outcomes(body) == {"own": "done", "another port": "refused", "later": "refused"}


def test_a_guarded_process_uses_no_proxy() -> None:
    body = """
import urllib.request
tried("none", lambda: 1 / len(urllib.request.getproxies().keys() - {"no"}))
"""
    assert outcomes(body) == {"none": "ZeroDivisionError"}
