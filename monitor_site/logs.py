"""Keeps keys out of log lines: URLs of share links, invites and message links are keys, and errors contain them."""

from __future__ import annotations

import copy
import logging
import re
import time
from typing import Any

KEYS = re.compile(
    r"stm_[\w-]+|(?<=/invite/)[\w/-]+|(?<=/share/)[\w/-]+|(?<=/alerts/act/)[\w:%-]+|(?<=%2Falerts%2Fact%2F)[\w:%-]+|"
    r"(?<=[?&]token=)[^\s&\"']+|(?<=ticket\.)[\w-]{20,}"
)


# Requests such as those with an unknown Host: anyone could fill the disk with their tracebacks.
OF_STRANGERS = "django.security."


class KeylessFormatter(logging.Formatter):
    """Formats a record with its traceback, and then removes keys."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name.startswith(OF_STRANGERS):
            record = copy.copy(record)
            record.exc_info = record.exc_text = None
        return KEYS.sub("…", super().format(record))


class WithoutLostConnections(logging.Filter):
    """Removes the tracebacks of an unavailable channel layer; the code that uses it logs one line with the reason."""

    def filter(self, record: logging.LogRecord) -> bool:
        # The module is loaded if it raised the error; most processes do not need Redis.
        from redis.exceptions import RedisError

        return record.exc_info is None or not isinstance(record.exc_info[1], (RedisError, OSError))


class OncePerOutage(logging.Filter):
    """Logs the first failure to connect to the database, and the next one only after a while without failures.

    A pool logs each failed attempt, several times per second, and each connection that it discards.
    """

    TOLD = "error connecting"
    QUIET_S = 30.0

    def __init__(self) -> None:
        super().__init__()
        self._last = -self.QUIET_S

    def filter(self, record: logging.LogRecord) -> bool:
        if not str(record.msg).startswith(self.TOLD):
            return record.levelno > logging.WARNING
        now = time.monotonic()
        is_first, self._last = now - self._last >= self.QUIET_S, now
        return is_first


def logging_settings(level: str) -> dict[str, Any]:
    """Return Django's setting LOGGING: lines without keys to standard error, from `level` on."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "class": "monitor_site.logs.KeylessFormatter",
                "format": "{asctime} {levelname} {name}: {message}",
                "style": "{",
            }
        },
        "filters": {
            "outages": {"()": "runs.outage.causes.WithoutOutages"},
            "lost_connections": {"()": "monitor_site.logs.WithoutLostConnections"},
            "repeated": {"()": "monitor_site.logs.OncePerOutage"},
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
        # While debugging, Django's own handlers would write each line a second time, with its keys.
        "loggers": {
            "django": {"handlers": []},
            "django.request": {"filters": ["outages"]},
            "channels_redis.pubsub": {"filters": ["lost_connections"]},
            "psycopg.pool": {"filters": ["repeated"]},
        },
        "root": {"handlers": ["console"], "level": level},
    }
