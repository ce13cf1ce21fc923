"""Keeps a process that sends messages out of the host's own network, with an audit hook that cannot be removed.

People enter the addresses of destinations. What they resolve to, and where servers redirect, is therefore checked when
a connection is opened. Call `install` once, before anything is sent.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from steersman.marked_text import gettext_noop

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Prefixes that lead to another address: RFC 6052, RFC 8215, RFC 3056, RFC 4380 and IPv4-compatible.
_NAT64 = ip_network("64:ff9b::/96")
_TUNNELS = [ip_network(each) for each in ("64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96", "fec0::/10")]
# Documentation (RFC 9637), and the address that Azure gives each machine for its agents.
_INSIDE = [ip_network(each) for each in ("3fff::/20", "168.63.129.16/32")]
_CONNECTING = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_STARTING = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty"}
# A proxy would open connections that this process cannot check.
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy")

_local = threading.local()


class Refused(PermissionError):
    """The process must not do this. The text says what, without an address."""


def is_outside(text: str, networks: Sequence[Network] = ()) -> bool:
    """Return whether a connection to this IP address leaves the host's own network, or is in one of `networks`."""
    try:
        address = _meant(ip_address(text.partition("%")[0]))
    except ValueError:
        return False
    if any(address in network for network in networks if network.version == address.version):
        return True
    return (
        address.is_global
        and not (address.is_multicast or address.is_reserved or address.is_unspecified)
        and not any(address in network for network in (*_TUNNELS, *_INSIDE) if network.version == address.version)
        and not _is_own(address)
    )


def install(networks: Sequence[Network]) -> None:
    """Refuse connections to inside addresses that are not in `networks`, and new processes, until the process ends."""
    for name in _PROXIES:
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)
    os.environ["NO_PROXY"] = "*"

    def judge(event: str, arguments: tuple[object, ...]) -> None:
        if event in _STARTING:
            raise Refused(
                "The message was not sent, because this service would start another process on the host of the portal."
            )
        if event in _CONNECTING:
            _judge_connection(arguments[-1], networks)

    sys.addaudithook(judge)


@contextmanager
def allowing(host: str, port: int) -> Iterator[None]:
    """Let this thread reach the installation's own server at `host` and `port`, wherever that is."""
    with suppress(OSError):
        _local.allowed = {(found[4][0], port) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    try:
        yield
    finally:
        _local.allowed = set()


def _judge_connection(address: object, networks: Sequence[Network]) -> None:
    if address is None:
        return  # sendmsg on a connected socket
    if not isinstance(address, tuple) or len(address) < 2 or not isinstance(address[0], str):
        raise Refused(
            "The message was not sent, because this service would connect to a local socket on the host of the portal."
        )
    host, port = address[0], address[1]
    if (host, port) in getattr(_local, "allowed", ()):
        return
    if not is_outside(host, networks):
        _local.refused = True
        raise Refused(REFUSAL)


REFUSAL = gettext_noop(
    "The address is in an internal network. To allow it, add the network to STEERSMAN_ALERT_NETWORKS."
)


def _meant(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address contains, if it contains one."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_own(address: Address) -> bool:
    """Return whether the address belongs to an interface of this host: a socket can be bound to no other."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def begin() -> None:
    """Forget earlier refusals of this thread."""
    _local.refused = False


def was_refused() -> bool:
    """Return whether this thread was refused anything since `begin`: libraries replace the exception by their own."""
    return bool(getattr(_local, "refused", False))
