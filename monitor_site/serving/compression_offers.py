"""Parses the offers of a client in `Sec-WebSocket-Extensions`, and chooses one of permessage-deflate.

The grammar is that of RFC 6455 §9.1, the parameters are those of RFC 7692 §7.1. An offer with an unknown, duplicate or
invalid parameter is declined as §7.1 requires, and the next one is tried: autobahn would refuse the connection, and
does not support a window of 8 bits. A header that does not follow the grammar offers nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from runs.protocol.wire_format import WINDOW_BITS

NAME = "permessage-deflate"
NO_MEMORY, OWN_WINDOW = "server_no_context_takeover", "server_max_window_bits"
NO_MEMORY_OF_CLIENT, WINDOW_OF_CLIENT = "client_no_context_takeover", "client_max_window_bits"

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
QUOTED = r'"(?:[^"\\]|\\.)*"'
SPACE = r"[ \t]*"
PARAMETER = re.compile(rf"{SPACE};{SPACE}({TOKEN})(?:{SPACE}={SPACE}({TOKEN}|{QUOTED}))?")
EXTENSION = re.compile(rf"{SPACE}({TOKEN})((?:{PARAMETER.pattern})*){SPACE}(?:,|$)")
# Elements between commas may be empty.
NOTHING = re.compile(rf"{SPACE},")
BITS = re.compile(r"[89]|1[0-5]")

# A parameter's name and its value, None if it has none.
Parameters = list[tuple[str, str | None]]


def offer_to_take(header: str) -> dict[str, list[str | bool]] | None:
    """Return the first offer that the portal accepts, with the parameters that affect what it sends; None without one.

    The form is that of autobahn's parser: a list of values by name, True for a parameter without a value.
    """
    for name, parameters in _offers(header):
        if name == NAME and _is_valid(parameters):
            own_bits = dict(parameters).get(OWN_WINDOW)
            if own_bits is None or int(own_bits) >= WINDOW_BITS:
                # Whatever window the client announces for itself, a receiver with the largest window understands it.
                taken: dict[str, list[str | bool]] = {OWN_WINDOW: [own_bits]} if own_bits is not None else {}
                return taken | ({NO_MEMORY: [True]} if NO_MEMORY in dict(parameters) else {})
    return None


def _offers(header: str) -> Iterator[tuple[str, Parameters]]:
    """Yield the lower-case name and the parameters of each extension, up to the first violation of the grammar."""
    place = 0
    while place < len(header):
        if nothing := NOTHING.match(header, place):
            place = nothing.end()
            continue
        found = EXTENSION.match(header, place)
        if found is None:
            return
        yield found[1].lower(), [(one[1].lower(), _unquoted(one[2])) for one in PARAMETER.finditer(found[2])]
        place = found.end()


def _unquoted(value: str | None) -> str | None:
    if value is None or not value.startswith('"'):
        return value
    return re.sub(r"\\(.)", r"\1", value[1:-1])


def _is_valid(parameters: Parameters) -> bool:
    """Return whether each parameter is known, valid and unique."""
    names = [name for name, _ in parameters]
    return len(names) == len(set(names)) and all(_may_have(name, value) for name, value in parameters)


def _may_have(name: str, value: str | None) -> bool:
    if name in (NO_MEMORY, NO_MEMORY_OF_CLIENT):
        return value is None
    if name == WINDOW_OF_CLIENT and value is None:
        return True
    return name in (OWN_WINDOW, WINDOW_OF_CLIENT) and value is not None and BITS.fullmatch(value) is not None
