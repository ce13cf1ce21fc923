"""Other services, by Apprise addresses: only those that post over HTTP and do nothing on this host.

People enter the addresses. Services that read files, start programs or contact this host have no schema here, and a
parameter that names a file, another address or a timeout is refused.
"""

from __future__ import annotations

import logging
import threading
from typing import Any
from urllib.parse import parse_qsl

from runs.alerts.sending import guard
from runs.alerts.sending.addresses import REFUSED_OPTIONS, SERVICES
from runs.alerts.sending.errors import NotSent, redacted
from runs.alerts.sending.message import Message
from runs.models import Severity
from steersman.marked_text import gettext_noop

TIMEOUT_S = 20
_KINDS = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.CRITICAL: "failure"}
_quiet = logging.getLogger("apprise")


def refusal(address: str) -> str:
    """Return why messages may not be sent to this Apprise address; empty if they may."""
    schema, separator, rest = address.partition("://")
    if not separator or schema.lower() not in SERVICES:
        return gettext_noop("This kind of address is not supported. See docs/alerts.md for the supported services.")
    query = rest.partition("?")[2]
    names = {name.lower().lstrip("+-:") for name, _ in parse_qsl(query, keep_blank_values=True)}
    if found := sorted(names & REFUSED_OPTIONS):
        return f"The address must not contain {', '.join(found)}."
    return ""


class _LogCollector(logging.Handler):
    """Collects the log records of the thread that created it."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._texts = texts
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._texts.append(record.getMessage())


def send(address: str, message: Message) -> str:
    """Send a message to a service; return its answer as far as Apprise reports it. Raises `NotSent`."""
    if reason := refusal(address):
        raise NotSent(reason, is_final=True)
    # Imported here, because only the sending process needs it, and only for such a destination.
    import apprise
    from apprise.attachment.memory import AttachMemory

    # Its log contains addresses, so it goes nowhere else.
    _quiet.propagate = False
    _quiet.setLevel(logging.WARNING)
    asset = apprise.AppriseAsset(
        app_id="Steersman",
        app_desc="Steersman",
        app_url="",
        plugin_paths=[],
        storage_mode="memory",
        secure_logging=True,
        async_mode=False,
        http_redirects=False,
    )
    sender = apprise.Apprise(asset=asset)
    if not sender.add(address):
        raise NotSent(
            gettext_noop(
                "The address does not have the form that the service requires. "
                "Compare it with Apprise's page about the service."
            ),
            is_final=True,
        )
    service: Any = sender[0]
    attached = None
    if service.attachment_support and message.pictures:
        attached = apprise.AppriseAttachment(asset=asset)
        for picture in message.pictures:
            attached.add(AttachMemory(picture.png, name="curve.png", mimetype="image/png"))
    said: list[str] = []
    outcome: list[bool] = []
    refused: list[bool] = []

    def notify() -> None:
        # Notify in this thread: `Apprise.notify` uses its own threads, where the guard's refusals would be lost.
        guard.begin()
        collector = _LogCollector(said)
        _quiet.addHandler(collector)
        try:
            outcome.append(
                bool(
                    service.notify(
                        body=message.text,
                        title=message.subject,
                        notify_type=apprise.NotifyType(_KINDS[Severity(message.severity)]),
                        body_format=apprise.NotifyFormat.TEXT,
                        attach=attached,
                    )
                )
            )
        finally:
            _quiet.removeHandler(collector)
            refused.append(guard.was_refused())

    # A service that answers one byte at a time must not block the sender.
    thread = threading.Thread(target=notify, daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    if thread.is_alive():
        raise NotSent(gettext_noop("The service did not answer in time."))
    if outcome == [True]:
        return gettext_noop("The service accepted the message.")
    if refused == [True]:
        raise NotSent(guard.REFUSAL, is_final=True)
    text = " ".join(said) or gettext_noop("The service rejected the message without a reason.")
    raise NotSent(redacted(text, [address]))
