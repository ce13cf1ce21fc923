"""Log lines that hold no key: addresses of share links, invites and links in messages are keys; errors name them."""

from __future__ import annotations

import copy
import logging
import re

KEYS = re.compile(
    r"stm_[\w-]+|(?<=/invite/)[\w/-]+|(?<=/share/)[\w/-]+|(?<=/alerts/act/)[\w:%-]+|(?<=%2Falerts%2Fact%2F)[\w:%-]+|"
    r"(?<=[?&]token=)[^\s&\"']+|(?<=ticket\.)[\w-]{20,}"
)


# What a stranger did, such as a foreign Host. Any of them could fill a disk with tracebacks.
OF_STRANGERS = "django.security."


class KeylessFormatter(logging.Formatter):
    """Formats a line, traceback included, and then takes out what opens something."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name.startswith(OF_STRANGERS):
            record = copy.copy(record)
            record.exc_info = record.exc_text = None
        return KEYS.sub("…", super().format(record))


class WithoutLostConnections(logging.Filter):
    """Takes out tracebacks of a channel layer that is away: who uses the layer says in one line that it is, and why."""

    def filter(self, record: logging.LogRecord) -> bool:
        # What has raised it is loaded; most processes need no Redis.
        from redis.exceptions import RedisError

        return record.exc_info is None or not isinstance(record.exc_info[1], (RedisError, OSError))
