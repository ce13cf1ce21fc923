"""Mail about alerts: from the project's account or the installation's server, as HTML with pictures and as text."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from email.mime.image import MIMEImage
from functools import partial
from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.smtp import EmailBackend

from runs.alerts.sending import guard
from runs.alerts.sending.addresses import masked_mail
from runs.alerts.sending.errors import NotSent, redacted
from runs.alerts.sending.message import Message
from runs.alerts.sending.secrets import unseal
from runs.alerts.wording.unread_mail import FILES, unread_mail
from runs.models import AlertDestination, MailAccount, MailSecurity
from steersman.marked_text import gettext_noop

SMTP_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
# RFC 5321, 4.1.4: an address literal, so that the name of the host is not revealed.
HELO_NAME = "[127.0.0.1]"
TIMEOUT_S = 15


class _InlineMail(EmailMultiAlternatives):
    """Mail whose attachments are parts of its HTML (RFC 2387)."""

    mixed_subtype = "related"


class NamelessBackend(EmailBackend):
    """Django's SMTP backend, without the name of this host, and with the answers of the server."""

    # The answer to the last accepted mail, such as "250 2.0.0 Ok: queued as 4F1".
    answer = ""

    @property
    def connection_class(self) -> Any:
        return partial(self._connect, super().connection_class)

    def _connect(self, made: Any, host: str, port: int, local_hostname: str, **options: Any) -> Any:
        server = made(host, port, local_hostname=HELO_NAME, **options)
        send_data = server.data

        def data(message: Any) -> tuple[int, bytes]:
            code, answer = send_data(message)
            self.answer = _said(code, answer)
            return code, answer

        server.data = data
        return server


def send(destination: AlertDestination, addresses: str, message: Message) -> str:
    """Send one mail to `addresses`, separated by commas or lines; return the server's answer. Raises `NotSent`."""
    recipients = [each.strip() for each in addresses.replace("\n", ",").split(",") if each.strip()]
    account = MailAccount.objects.filter(project_id=destination.project_id).first()
    password = unseal(account.secret) if account and account.secret else ""
    hidden = partial(_hidden, password, recipients)
    try:
        with _server(account, password) as (connection, sender):
            mail = _InlineMail(_one_line(message.subject), message.text, sender, recipients, connection=connection)
            domain = sender.rpartition("@")[2].rstrip(">") or "steersman"
            mail.extra_headers["Message-ID"] = f"<{message.id}@{domain}>"
            if message.follows is not None:
                mail.extra_headers["In-Reply-To"] = mail.extra_headers["References"] = f"<{message.follows}@{domain}>"
            # RFC 3834: no holiday reply to it.
            mail.extra_headers["Auto-Submitted"] = "auto-generated"
            mail.attach_alternative(message.html, "text/html")
            for picture in message.pictures:
                image = MIMEImage(picture.png, "png")
                image.add_header("Content-ID", f"<{picture.cid}>")
                image.add_header("Content-Disposition", "inline", filename="curve.png")
                mail.attach(image)
            mail.send()
            if account is None and unread_mail():
                raise NotSent(unread_mail(), is_final=True)
            answer = getattr(connection, "answer", "")
    except smtplib.SMTPRecipientsRefused as error:
        answers = [(code, answer) for code, answer in error.recipients.values()]
        text = "; ".join(_said(code, answer) for code, answer in answers)
        raise NotSent(hidden(text), all(code >= 500 for code, _ in answers)) from None
    except smtplib.SMTPResponseException as error:
        raise NotSent(hidden(_said(error.smtp_code, error.smtp_error)), error.smtp_code >= 500) from None
    except guard.Refused as error:
        raise NotSent(str(error), is_final=True) from None
    except (smtplib.SMTPException, OSError) as error:
        raise NotSent(hidden(f"{type(error).__name__}: {error}")) from None
    return hidden(answer) or gettext_noop("The mail server accepted the message.")


@contextmanager
def _server(account: MailAccount | None, password: str) -> Iterator[tuple[BaseEmailBackend, str]]:
    """Yield the mail server, and the sender address that it accepts."""
    if account is not None:
        yield (
            NamelessBackend(
                host=account.host,
                port=account.port,
                username=account.user,
                password=password,
                use_ssl=account.security == MailSecurity.TLS,
                use_tls=account.security == MailSecurity.STARTTLS,
                timeout=TIMEOUT_S,
            ),
            account.sender or account.user,
        )
    elif unread_mail() and settings.EMAIL_BACKEND != FILES:
        # Not printed, because the links in a message are keys, and logs must not contain keys.
        raise NotSent(unread_mail(), is_final=True)
    elif settings.EMAIL_BACKEND == SMTP_BACKEND:
        with guard.allowing(settings.EMAIL_HOST, settings.EMAIL_PORT):
            yield NamelessBackend(timeout=TIMEOUT_S), settings.DEFAULT_FROM_EMAIL
    else:
        yield get_connection(), settings.DEFAULT_FROM_EMAIL


def _hidden(password: str, recipients: list[str], text: str) -> str:
    """Return an answer without the password, and with recipients masked as members may see them."""
    for each in sorted(recipients, key=len, reverse=True):
        text = re.sub(re.escape(each), masked_mail(each), text, flags=re.IGNORECASE)
    return redacted(text, [password])


def _said(code: int, answer: bytes | str) -> str:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    return f"{code} {text}" if code > 0 else text


def _one_line(text: str) -> str:
    """Replace line breaks: a header has one line, but the name of a run may have several."""
    return " ".join(text.split())
