"""Log lines that hold no key: addresses of share links, invites and links in messages are keys; errors name them."""

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


class OncePerOutage(logging.Filter):
    """Logs the first failure to connect to the database, and no further one until there was none for a while.

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
    """Return Django's setting LOGGING: lines without keys from `level` on, to standard error."""
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
        # Django's own handlers would write each line a second time when debugging, keys included.
        "loggers": {
            "django": {"handlers": []},
            "django.request": {"filters": ["outages"]},
            "channels_redis.pubsub": {"filters": ["lost_connections"]},
            "psycopg.pool": {"filters": ["repeated"]},
        },
        "root": {"handlers": ["console"], "level": level},
    }
