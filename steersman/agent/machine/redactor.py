"""Takes out of text what must not leave the training host: home, data folder, user, host and secrets.

No Django, no torch.
"""

from __future__ import annotations

import getpass
import math
import os
import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from steersman.values import LONGEST_NAME

Value = TypeVar("Value")

SECRET_NAME = re.compile(
    r"SECRET|TOKEN|PASSW|API_?KEY|ACCESS_?KEY|PRIVATE|CREDENTIAL|AUTH|_KEY$|_DSN$|DATABASE_URL", re.IGNORECASE
)
# A shorter value would blank out ordinary words.
SHORTEST_SECRET = 6
# A user or a host may be called so too; in the name of a series these say nothing of them.
WORDS_OF_SERIES = frozenset(
    {"accuracy", "epoch", "evaluation", "loss", "optimizer", "speed", "step", "test", "train", "validation"}
)


class Redactor:
    """Replaces what identifies this host or opens its doors."""

    def __init__(self, data: Path, application: Path, environment: Mapping[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        literal: dict[str, str] = {}
        for name, value in variables.items():
            if SECRET_NAME.search(name) and len(value) >= SHORTEST_SECRET:
                literal[value] = "<secret>"
        for folder, shown in ((data, "<data>"), (application, "<steersman>"), (Path.home(), "~")):
            for spelled in {str(folder), str(folder.resolve())}:
                if len(spelled) > 1:
                    literal[spelled] = shown
        words = {host: "<host>" for host in {socket.gethostname(), socket.getfqdn()} if host and host != "localhost"}
        words[_user_name()] = "<user>"
        # Longest first: the data folder may lie inside the home.
        patterns = [re.escape(text) for text in sorted(literal, key=len, reverse=True)]
        for word in sorted(words, key=len, reverse=True):
            if len(word) > 1:
                patterns.append(rf"(?<![\w.-]){re.escape(word)}(?![\w-])")
        self._shown = literal | words
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    def text(self, text: str) -> str:
        """Return `text` with what must not leave, and what no database takes (NUL, half characters), replaced."""
        return self._replaced(text)

    def _replaced(self, text: str, spared: frozenset[str] = frozenset()) -> str:
        text = text.replace("\0", "\ufffd").encode(errors="replace").decode()
        if self._pattern is None:
            return text
        return self._pattern.sub(
            lambda match: match.group() if match.group() in spared else self._shown[match.group()], text
        )

    def name(self, name: str) -> str:
        """Return a name redacted, of at most LONGEST_NAME characters; what every training calls its series stays."""
        return self._replaced(name, spared=WORDS_OF_SERIES)[:LONGEST_NAME]

    def names(self, names: Iterable[str]) -> list[str]:
        """Return names redacted, none twice."""
        shown: dict[str, None] = {}
        for given in names:
            plain = text = self.name(given)
            number = 1
            while text in shown:
                number += 1
                mark = f" ({number})"
                text = plain[: LONGEST_NAME - len(mark)] + mark
            shown[text] = None
        return list(shown)

    def named(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Return values by their names, these redacted."""
        return dict(zip(self.names(values), values.values(), strict=True))

    def json(self, value: Any) -> Any:
        """Return a JSON-ready value with every text in it redacted; numbers that JSON cannot carry become None."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.json(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.json(item) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
