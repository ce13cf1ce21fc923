"""Removes private data from texts that leave the training host: home, data folder, user, host and secrets.

No Django, no torch.
"""

from __future__ import annotations

import getpass
import math
import os
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from steersman.agent.machine.secret_values import secret_texts
from steersman.values import LONGEST_NAME

Value = TypeVar("Value")

# Accounts of every system, which do not identify a person or a machine.
GENERIC_USERS = frozenset({"root", "user", "admin", "ubuntu", "jovyan", "nobody", "docker", "runner"})
# A host may have such a name too: these words are only removed from addresses.
WORDS_OF_SERIES = frozenset(
    {"accuracy", "epoch", "evaluation", "loss", "optimizer", "speed", "step", "test", "train", "validation"}
)
# The fields of a knob that people read. `series` is a stored name.
KNOB_TEXTS = frozenset({"help", "unit", "series"})
# A slash within the name of a series does not count.
ABSOLUTE_PATH = re.compile(r"(?<![\w.])/[^\s:,;'\"()]*")


class Redactor:
    """Replaces texts that identify this host or give access to something."""

    def __init__(self, data: Path, application: Path, environment: Mapping[str, str] | None = None) -> None:
        literal = secret_texts(os.environ if environment is None else environment)
        for folder, shown in ((data, "<data>"), (application, "<steersman>"), (Path.home(), "~")):
            for spelled in {str(folder), str(folder.resolve())}:
                if len(spelled) > 1:
                    literal[spelled] = shown
        user = _user_name()
        self._user = "" if user in GENERIC_USERS else user
        self._hosts = {name for name in (socket.gethostname(), socket.getfqdn()) if name and name != "localhost"}
        words = dict.fromkeys(self._hosts, "<host>") | ({self._user: "<user>"} if self._user else {})
        # Longest first, because the data folder may be inside the home.
        patterns = [re.escape(text) for text in sorted(literal, key=len, reverse=True)]
        for word in sorted(words, key=len, reverse=True):
            is_told = word in self._hosts and word not in WORDS_OF_SERIES
            if len(word) > 1:
                patterns.append(_as_word(word, anywhere=is_told or not word.isalpha()))
        self._shown = words | literal
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    def text(self, text: str) -> str:
        """Return `text` with private data, and characters that databases refuse (NUL, lone surrogates), replaced."""
        text = storable(text)
        if self._pattern is not None:
            text = self._pattern.sub(lambda match: self._shown[match.group()], text)
        return ABSOLUTE_PATH.sub(self._path, text) if self._user and f"/{self._user}" in text else text

    def _path(self, match: re.Match[str]) -> str:
        return "/".join("<user>" if part == self._user else part for part in match.group().split("/"))

    def name(self, name: str) -> str:
        """Return a name redacted, of at most LONGEST_NAME characters."""
        return self.text(name)[:LONGEST_NAME]

    def names(self, names: Iterable[str]) -> list[str]:
        """Return redacted names without duplicates."""
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
        """Return values by their redacted names."""
        return dict(zip(self.names(values), values.values(), strict=True))

    def environment(self, value: Any) -> Any:
        """Return a training's report of its host as JSON-ready values: like `json`, and without the names of user and
        host.
        """
        if isinstance(value, str):
            if value in self._hosts:
                return "<host>"
            return "<user>" if value and value == self._user else self.text(value)
        return _each(value, self.environment, self.text)

    def json(self, value: Any) -> Any:
        """Return a JSON-ready value with every text redacted; numbers that JSON cannot represent become None."""
        return self.text(value) if isinstance(value, str) else _each(value, self.json, self.text)

    def knob(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Return a knob's specification, JSON-ready.

        Its name, groups and choices stay, because commands contain them.
        """
        plain: dict[str, Any] = as_stored(dict(spec))
        for field in KNOB_TEXTS & plain.keys():
            plain[field] = self.json(plain[field])
        return plain


def as_stored(value: Any) -> Any:
    """Return a JSON-ready value that a database accepts, without redaction."""
    return storable(value) if isinstance(value, str) else _each(value, as_stored, storable)


def storable(text: str) -> str:
    """Return `text` with the characters that databases refuse, NUL and lone surrogates, replaced."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def _each(value: Any, change: Callable[[Any], Any], change_key: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {change_key(str(key)): change(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [change(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _as_word(word: str, anywhere: bool) -> str:
    """Return the pattern that finds a user or host name in a text, as a separate word or only in addresses.

    A user name of plain letters may also be an ordinary word, such as root: it is only removed from addresses, and from
    absolute paths (see `Redactor.text`).
    """
    literal = re.escape(word)
    if anywhere:
        return rf"(?<![\w.-]){literal}(?![\w-])"
    return rf"(?<![\w.-]){literal}(?=@[\w<])|(?<=[\w>]@){literal}(?![\w-])|(?<=~){literal}(?![\w-])"


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
