"""The messages for robots of chat groups."""

from __future__ import annotations

from uuid import uuid4

from runs.alerts.sending.message import Message
from runs.alerts.sending.robots import markdown
from runs.models import Severity


def test_names_of_a_training_make_no_links_pictures_or_mentions() -> None:
    subject = "[Lab] [Pause](https://evil.example) ![](https://evil.example/x.png) <@all> <font color=red>: Spike"
    shown = markdown(Message(uuid4(), subject, Severity.WARNING), "")
    assert "](" not in shown and "<" not in shown and "Spike" in shown
    assert markdown(Message(uuid4(), "calm", Severity.INFO), "<ops>").startswith("<ops>")
