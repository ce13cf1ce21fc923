"""A training that logs points and takes commands until it is asked to end. It imports only the client's package.

usage: python -m tests.chaos.link.training FOLDER POINTS

It logs about a point per millisecond, at least POINTS, and ends when the file FOLDER/enough exists. It writes a line to
FOLDER/taken for each command that it takes, and its last step to FOLDER/logged.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from steersman.files.journal import JournalWriter
from steersman.files.mailbox import Mailbox
from steersman.records.kinds import EndRecord, OutcomeRecord

POINTS_AT_ONCE = 20
PAUSE_S = 0.01
SLOW_PAUSE_S = 0.05


def train(folder: Path, points: int) -> None:
    mailbox, writer = Mailbox(folder), JournalWriter(folder)
    log = writer.encoder(("train/loss", "train/accuracy"))
    step = 0
    with (folder / "taken").open("a") as taken:
        while True:
            is_last = (folder / "enough").exists()
            for _ in range(POINTS_AT_ONCE if step < points else 1):
                step += 1
                log(step, [1.0 / step, 0.5])
            for command in mailbox.new_commands():
                expires = command.expires_monotonic_s
                is_late = expires is not None and time.monotonic() > expires
                state = "expired" if is_late else "applied"
                taken.write(f"{command.id} {state}\n")
                taken.flush()
                outcome = OutcomeRecord(id=command.id, step=step, command=command.command, state=state)
                writer.append(outcome)
                mailbox.count_outcome()
            mailbox.set_taken(mailbox.posted[0])
            if is_last:
                writer.append(EndRecord(step=step, outcome="finished"))
                (folder / "logged").write_text(str(step))
                return
            time.sleep(PAUSE_S if step < points else SLOW_PAUSE_S)


if __name__ == "__main__":
    train(Path(sys.argv[1]), int(sys.argv[2]))
