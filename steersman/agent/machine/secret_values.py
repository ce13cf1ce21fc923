"""Finds secrets in environment variables, by the name of the variable or by the form of the value.

A secret is hidden in everything that a training writes, so ordinary words and numbers must not count as secrets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from urllib.parse import unquote, urlsplit

HIDDEN = "<secret>"
# Parts of a name between underscores; MAX_TOKENS and GIT_AUTHOR_NAME contain none of them.
SECRET_WORDS = frozenset(
    [
        "SECRET",
        "TOKEN",
        "PASSWORD",
        "PASSWD",
        "PASSPHRASE",
        "PASS",
        "PWD",
        "PAT",
        "CREDENTIAL",
        "CREDENTIALS",
        "AUTH",
        "KEY",
        "APIKEY",
        "DSN",
        "WEBHOOK",
        "COOKIE",
        "SIGNATURE",
        "SAS",
    ]
)
# The same without underscores, such as MYSQLPASSWORD.
SECRET_ENDINGS = re.compile(r"(SECRET|TOKEN|PASSWORD|PASSWD|APIKEY|ACCESSKEY|SECRETKEY|PRIVATEKEY)$")
# Not secrets: a shell sets these variables to folders.
NO_SECRETS = frozenset({"PWD", "OLDPWD"})
# A shorter value would hide parts of ordinary words.
SHORTEST = 6
# A text of letters counts as a word up to this length.
LONGEST_WORD = 12
WORD = re.compile(r"[^\W\d_]+")
NUMBER = re.compile(r"[+-]?(\d[\d_,]*(\.\d*)?|\.\d+)(e[+-]?\d+)?%?", re.IGNORECASE)
# Separators and quotes of lists of values.
MARKS = re.compile(r"[\s,;'\"]+")
# The first and last line of a key file (RFC 7468).
LABEL = re.compile(r"-{5}[A-Z0-9 ]+-{5}")
# A value with more parts or lines is only hidden as a whole, because each part is searched for in all texts.
MOST_PARTS = 100
PATHS = re.compile(r"[~.]{0,2}/[^\s]*")
# Keys that are recognisable by their first letters: GitHub, GitLab, Hugging Face, OpenAI, AWS, Slack, Google, JWT.
KNOWN_KEYS = re.compile(
    r"(gh[pousr]_|github_pat_|glpat-|hf_|sk-|rk_live_|AKIA|ASIA|xox[abeoprs]-|AIza|ya29\.|npm_|pypi-|eyJ[\w-]+\.eyJ)\S{8,}"
)
TOKEN = re.compile(r"[A-Za-z0-9_\-+/=.~]+")
SHORTEST_TOKEN = 20
# The minimum length of a part, and how often the kind of its characters changes per character: 0.6 in random parts.
SHORTEST_PART = 10
LEAST_CHANGES = 0.35


def secret_texts(variables: Mapping[str, str]) -> dict[str, str]:
    """Return each text that must not leave the host, with its replacement."""
    found: dict[str, str] = {}
    for name, value in variables.items():
        for text in _secrets_of(name, value):
            if len(text) >= SHORTEST:
                found[text] = HIDDEN
    return found


def is_secret_name(name: str) -> bool:
    """Return whether a variable with this name contains a secret."""
    upper = name.upper()
    if upper in NO_SECRETS:
        return False
    return bool(SECRET_WORDS.intersection(upper.split("_"))) or bool(SECRET_ENDINGS.search(upper))


def _secrets_of(name: str, value: str) -> Iterator[str]:
    """Yield the secrets in a value: itself, and those of its lines and parts that a text may contain alone."""
    value = value.strip()
    parts = list(filter(None, MARKS.split(value)))
    if len(parts) > 1 and is_secret_name(name):
        yield value
        lines = [line.strip() for line in value.splitlines()]
        if 1 < len(lines) <= MOST_PARTS:
            yield from (line for line in lines if not (LABEL.fullmatch(line) or _is_ordinary(line)))
    if len(parts) <= MOST_PARTS:
        for part in parts:
            yield from _secrets_of_part(name if len(parts) == 1 else "", part)


def _secrets_of_part(name: str, value: str) -> Iterator[str]:
    if "://" in value:
        yield from _secrets_of_url(name, value)
        return
    if is_secret_name(name):
        if not _is_ordinary(value):
            yield value
    elif _is_key(value):
        yield value
    yield from filter(_is_key, re.split(r"[=:&]", value)[:MOST_PARTS])


def _secrets_of_url(name: str, url: str) -> Iterator[str]:
    """Yield the secrets in a URL: its password, a random part of it, or all of it."""
    try:
        parts = urlsplit(url)
        user, password = parts.username, parts.password
    except ValueError:
        yield url
        return
    if password:
        yield parts.netloc.rpartition("@")[0]
        for spelled in {password, unquote(password)}:
            if not _is_ordinary(spelled):
                yield spelled
    elif user and (_is_key(user) or (is_secret_name(name) and not _is_ordinary(user))):
        yield user
    if is_secret_name(name):
        yield url
    yield from filter(_is_key, re.split(r"[/?&=#:]", f"{parts.path}?{parts.query}#{parts.fragment}")[:MOST_PARTS])


def _is_key(value: str) -> bool:
    """Return whether a value looks like a key, whatever the name of its variable."""
    return bool(KNOWN_KEYS.fullmatch(value)) or _is_random(value)


def _is_ordinary(value: str) -> bool:
    """Return whether a value is a word, a number or a path, which also occur in unrelated texts."""
    if WORD.fullmatch(value):
        return len(value) <= LONGEST_WORD and (value.islower() or value.istitle() or value.isupper())
    return bool(NUMBER.fullmatch(value) or PATHS.fullmatch(value))


def _is_random(value: str) -> bool:
    """Return whether a value looks random: long, with upper and lower case letters and digits mixed."""
    if len(value) < SHORTEST_TOKEN or not TOKEN.fullmatch(value) or PATHS.match(value):
        return False
    return any(map(_is_mixed, re.findall(r"[A-Za-z0-9]+", value)))


def _is_mixed(part: str) -> bool:
    """Return whether upper case, lower case and digits alternate often; in names of models and versions they do not."""
    if len(part) < SHORTEST_PART:
        return False
    kinds = [0 if each.islower() else 1 if each.isupper() else 2 for each in part]
    changes = sum(one != other for one, other in pairwise(kinds))
    return len(set(kinds)) == 3 and changes >= LEAST_CHANGES * len(part)
