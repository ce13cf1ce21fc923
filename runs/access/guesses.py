"""Limits the unknown tokens that an address may present over HTTP. Kept in the memory of each web process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection

from runs.access.limiter import Limiter
from runs.access.tokens import digest, find_token, is_known
from runs.models import AccessToken

# A script with a mistyped token retries often. One guess per second is harmless, because tokens have 256 random bits.
GUESSES_BURST = 100
GUESSES_PER_S = 1.0
MOST_REMEMBERED = 10_000


class TooManyGuesses(Exception):
    """This address presented too many unknown tokens, so its next ones are not looked up for now."""


class Lookups:
    """Looks up tokens. Tokens that were found before are looked up even for a refused address. Threads may share it."""

    def __init__(self) -> None:
        self._guesses = Limiter(GUESSES_BURST, GUESSES_PER_S)
        self._found: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, value: str, scopes: Collection[str], address: str) -> AccessToken | None:
        """Return the token of `value` as `find_token` does. Raises `TooManyGuesses`."""
        key = digest(value)
        if key not in self._found and not self._guesses.has(address):
            raise TooManyGuesses
        token = find_token(value, scopes)
        if token is not None:
            self._remember(key)
        elif not is_known(value):
            self._guesses.take(address)
        return token

    def _remember(self, key: str) -> None:
        with self._lock:
            self._found[key] = None
            self._found.move_to_end(key)
            if len(self._found) > MOST_REMEMBERED:
                self._found.popitem(last=False)


lookups = Lookups()
