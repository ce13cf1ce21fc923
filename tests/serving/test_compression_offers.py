"""Every offer of compression that a client may make leads to a working connection (RFC 7692 §7.1)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.serving.test_socket_wire import RawViewer
from tests.support.stack import ROOT, free_port

DEFLATE, ALONE = "permessage-deflate; client_no_context_takeover", "; server_no_context_takeover"
# The client's offers and the portal's responses; None if the portal does not compress.
OFFERS: list[tuple[str, str | None]] = [
    ("permessage-deflate", DEFLATE),
    ("permessage-deflate; client_max_window_bits", DEFLATE),
    ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", DEFLATE + ALONE),
    *[
        (f"permessage-deflate; server_max_window_bits={bits}", f"{DEFLATE}; server_max_window_bits=12")
        for bits in range(12, 16)
    ],
    *[(f"permessage-deflate; server_max_window_bits={bits}", None) for bits in (0, 7, *range(8, 12), 16)],
    *[(f"permessage-deflate; client_max_window_bits={bits}", DEFLATE) for bits in range(8, 16)],
    *[(f"permessage-deflate; client_max_window_bits={bits}", None) for bits in (7, 16, "", "x", "012", "+12", "1_2")],
    # Several offers, in the order of the client's preference.
    ("permessage-deflate; server_max_window_bits=8, permessage-deflate", DEFLATE),
    (
        "permessage-deflate; server_max_window_bits=10, permessage-deflate; server_max_window_bits=15"
        "; server_no_context_takeover, permessage-deflate",
        f"{DEFLATE}{ALONE}; server_max_window_bits=12",
    ),
    # Unknown, doubled and wrong parameters only decline their own offer.
    ("permessage-deflate; novel_parameter", None),
    ("permessage-deflate; novel_parameter=1, permessage-deflate", DEFLATE),
    ("permessage-deflate; server_max_window_bits", None),
    ("permessage-deflate; server_no_context_takeover=1, permessage-deflate", DEFLATE),
    ("permessage-deflate; client_no_context_takeover=true", None),
    ("permessage-deflate; server_max_window_bits=13; server_max_window_bits=13", None),
    # Quoted values equal unquoted ones, and quoted text is no offer.
    ('permessage-deflate; server_max_window_bits="13"', f"{DEFLATE}; server_max_window_bits=12"),
    ('permessage-deflate; server_max_window_bits="1\\3"', f"{DEFLATE}; server_max_window_bits=12"),
    ('permessage-deflate; server_max_window_bits="8", permessage-deflate; client_max_window_bits="8"', DEFLATE),
    ('permessage-deflate; server_max_window_bits=""', None),
    ('other; text="a, permessage-deflate; b"', None),
    ('other; text="a, \\"b; c", permessage-deflate', DEFLATE),
    # Other extensions, spaces and empty elements.
    ("x-webkit-deflate-frame, permessage-deflate", DEFLATE),
    ("permessage-bzip2; client_max_compress_level=99, permessage-deflate", DEFLATE),
    ("permessage-bzip2", None),
    (" , ,permessage-deflate ;\tserver_max_window_bits = 15 ,", f"{DEFLATE}; server_max_window_bits=12"),
    ("Permessage-Deflate", DEFLATE),
    # Offers with invalid syntax.
    ("permessage-deflate; =15", None),
    ("permessage-deflate; ; server_no_context_takeover", None),
    ('permessage-deflate; server_max_window_bits="13', None),
    ("permessage-deflate\r\nSec-WebSocket-Extensions: permessage-deflate; novel_parameter", DEFLATE),
    ("permessage-deflate; novel_parameter\r\nSec-WebSocket-Extensions: permessage-deflate", DEFLATE),
]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The portal's server in front of an application that echoes its input."""
    port = free_port()
    command = [sys.executable, "-m", "tests.live.echo_server", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stdout.readline() == "ready\n"
        yield port
        server.terminate()


@pytest.mark.parametrize(("offer", "answer"), OFFERS)
def test_every_offer_leads_to_a_working_connection(port: int, offer: str, answer: str | None) -> None:
    viewer = RawViewer(port, 1, "none", compression=True, offer=offer)
    status, *headers = viewer.head.split("\r\n")
    assert " 101 " in status, viewer.head
    assert [line.partition(": ")[2] for line in headers if "-Extensions" in line] == ([answer] if answer else [])
    for _ in range(2):
        viewer.send(1, b'{"kind":"ping"}')
        sent, message = next(viewer.messages())
        assert message == {"kind": "ping"}
        assert (sent == b'{"kind":"ping"}') == (answer is None), "compressed where that was agreed, and only there"
    viewer.socket.close()
