"""Log lines that hold no key: addresses of share links, invites and links in messages are keys; errors name them."""

from __future__ import annotations

import logging
import re

KEYS = re.compile(
    r"stm_[\w-]+|(?<=/invite/)[\w-]+|(?<=/share/)[\w-]+|(?<=/alerts/act/)[\w:%-]+|(?<=%2Falerts%2Fact%2F)[\w:%-]+|"
    r"(?<=[?&]token=)[^\s&\"']+|(?<=ticket\.)[\w-]{20,}"
)


class KeylessFormatter(logging.Formatter):
    """Formats a line, traceback included, and then takes out what opens something."""

    def format(self, record: logging.LogRecord) -> str:
        return KEYS.sub("…", super().format(record))
