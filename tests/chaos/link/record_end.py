"""The real record side of one attempt, for host sides that connect to a Unix socket.

usage: python -m tests.chaos.link.record_end ADDRESS RUN ATTEMPT NUMBER
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from contextlib import suppress

import django

LOOK_INTERVAL_S = 0.05


class Nobody:
    """An observer that ignores all reports."""

    def see(self, report: object, step: int, stalled: bool) -> None: ...
    def take_lines(self) -> list[object]:
        return []

    def finish(self) -> None: ...


def answer_all(connection: socket.socket, run_id: int, attempt_id: int, number: int) -> None:
    """Answer one host side until the connection breaks. If the database is busy, try again."""
    from django.db import Error as DatabaseError
    from django.db import connection as database

    from runs.recording.lifecycle import Lease
    from runs.recording.record_side.session import RecordSession
    from steersman.wire.codec import decode, encode
    from steersman.wire.framing import Frames, framed
    from trainer.control.concluding import conclude_ended

    nobody: object = Nobody()
    session = RecordSession(Lease(run_id, attempt_id, number), conclude_ended, nobody)  # type: ignore[arg-type]
    frames, waiting = Frames(), []
    connection.settimeout(LOOK_INTERVAL_S)
    looked_at = 0.0
    with connection, suppress(OSError):
        while True:
            try:
                data = connection.recv(1 << 18)
                if not data:
                    break
                waiting += [decode(frame) for frame in frames.take(data)]
            except TimeoutError:
                pass
            try:
                while waiting:
                    answers = session.answer(waiting[0])
                    waiting.pop(0)
                    connection.sendall(b"".join(framed(encode(each)) for each in answers))
                if time.monotonic() - looked_at > LOOK_INTERVAL_S:
                    looked_at = time.monotonic()
                    orders = session.look(for_commands=True)
                    connection.sendall(b"".join(framed(encode(each)) for each in orders))
            except DatabaseError:
                database.close()
    database.close()


def main() -> None:
    django.setup()
    address, lease = sys.argv[1], [int(word) for word in sys.argv[2:]]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer_all, args=(connection, *lease), daemon=True).start()


if __name__ == "__main__":
    main()
