"""A mail server that can be killed: it prints a JSON line with time and text of each mail before it accepts the mail.

usage: mail_sink.py PORT
"""

from __future__ import annotations

import json
import sys
import time
from email import message_from_bytes, policy

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session


class Sink:
    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        mail = message_from_bytes(envelope.content or b"", policy=policy.default)  # type: ignore[arg-type]
        text = mail.get_body(("plain",)).get_content()  # type: ignore[attr-defined]
        print(json.dumps({"at": time.time(), "text": text}), flush=True)
        return "250 OK"


if __name__ == "__main__":
    Controller(Sink(), hostname="127.0.0.1", port=int(sys.argv[1])).start()
    while True:
        time.sleep(60)
