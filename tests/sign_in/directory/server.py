"""A real directory for tests: Debian's slapd with people and groups, over ldap:// and ldaps:// on this machine."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import socket
import subprocess
from pathlib import Path

from tests.support.stack import free_port, wait_for
from tests.support.tls.certificate import write_certificate

SUFFIX = "dc=example,dc=org"
SEARCHER = f"cn=searcher,{SUFFIX}"
SEARCHERS_PASSWORD = "canary-of-the-searcher"
SLAPD = shutil.which("slapd", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))
CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
TLSCertificateFile {folder}/ssl/fullchain.pem
TLSCertificateKeyFile {folder}/ssl/privkey.pem
database mdb
suffix "{suffix}"
directory {folder}/data
rootdn "cn=root,{suffix}"
rootpw {password}
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{searcher}" read by * none
"""


class DirectoryServer:
    """Serves until `stop`; `start` again keeps its entries."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"ldap": free_port(), "ldaps": free_port()}
        (folder / "data").mkdir()
        write_certificate(folder / "ssl", "localhost")
        self.configuration = folder / "slapd.conf"
        self.configuration.write_text(
            CONFIGURATION.format(folder=folder, suffix=SUFFIX, searcher=SEARCHER, password=SEARCHERS_PASSWORD)
        )
        self.add(
            f"dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example",
            *(f"dn: ou={name},{SUFFIX}\nobjectClass: organizationalUnit\nou: {name}" for name in ("people", "groups")),
            f"dn: {SEARCHER}\nobjectClass: person\ncn: searcher\nsn: searcher\n"
            f"userPassword: {hashed(SEARCHERS_PASSWORD)}",
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def authority(self) -> str:
        return str(self.folder / "ssl" / "fullchain.pem")

    def address(self, scheme: str) -> str:
        # libldap replaces localhost by the name of the machine, which the certificate would then have to contain.
        return f"{scheme}://127.0.0.1:{self.ports[scheme]}"

    def add(self, *entries: str) -> None:
        """Add entries in LDIF to a server that is not running."""
        assert SLAPD is not None
        command = [SLAPD, "-T", "add", "-f", str(self.configuration), "-q"]
        subprocess.run(command, input="\n\n".join(entries), text=True, check=True, capture_output=True, timeout=60)

    def start(self) -> None:
        assert SLAPD is not None
        listening = " ".join(f"{scheme}://localhost:{port}" for scheme, port in self.ports.items())
        self.process = subprocess.Popen(
            [SLAPD, "-f", str(self.configuration), "-h", listening, "-d", "0"], stderr=subprocess.DEVNULL
        )
        for port in self.ports.values():
            wait_for(lambda port=port: accepts(port), "slapd")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def person(name: str, password: str, number: str = "") -> str:
    """Return an entry in LDIF. `number` is its entryUUID, by default derived from the name."""
    number = number or f"00000000-0000-0000-0000-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return (
        f"dn: uid={name},ou=people,{SUFFIX}\nobjectClass: inetOrgPerson\nuid: {name}\ncn: {name}\nsn: of {name}\n"
        f"givenName: {name.title()}\nuserPassword: {hashed(password)}\nentryUUID: {number}"
    )


def group(name: str, *members: str) -> str:
    listed = "\n".join(f"member: uid={member},ou=people,{SUFFIX}" for member in members)
    return f"dn: cn={name},ou=groups,{SUFFIX}\nobjectClass: groupOfNames\ncn: {name}\n{listed}"


def posix_group(name: str, *logins: str) -> str:
    listed = "\n".join(f"memberUid: {login}" for login in logins)
    return f"dn: cn={name},ou=groups,{SUFFIX}\nobjectClass: posixGroup\ncn: {name}\ngidNumber: 500\n{listed}"


def hashed(password: str) -> str:
    salt = os.urandom(8)
    digest = hashlib.sha1(password.encode() + salt).digest()
    return "{SSHA}" + base64.b64encode(digest + salt).decode()
