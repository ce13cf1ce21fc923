"""Sends one message, depending on the kind of its destination."""

from __future__ import annotations

from runs.alerts.sending import mail, robots, services
from runs.alerts.sending.errors import NotSent
from runs.alerts.sending.message import Message
from runs.alerts.sending.secrets import UnreadableSecret, unseal
from runs.models import AlertDestination, DestinationKind


def send(destination: AlertDestination, message: Message) -> str:
    """Send a message; return the server's answer without secrets. Raises `NotSent` for every failure."""
    try:
        address = unseal(destination.secret)
        match destination.kind:
            case DestinationKind.MAIL:
                return mail.send(destination, address, message)
            case DestinationKind.DINGTALK:
                return robots.send_dingtalk(address, destination.keyword, message)
            case DestinationKind.WECOM:
                return robots.send_wecom(address, destination.keyword, message)
            case _:
                return services.send(address, message)
    except UnreadableSecret as error:
        raise NotSent(str(error), is_final=True) from None
    except NotSent:
        raise
    except Exception as error:
        # Libraries raise any exception, and its text may contain the address.
        raise NotSent(f"The message could not be sent: {type(error).__name__}.") from None
