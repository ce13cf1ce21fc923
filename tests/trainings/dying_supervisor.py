"""`train` with a supervisor that dies whenever it reads a text called "deadly": dying_supervisor.py RUN [SCRIPT …]."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "monitor_site.settings")
django.setup()

from steersman.agent.supervise.stall import StallWatch  # noqa: E402
from steersman.records.record import Record  # noqa: E402  after Django is set up
from trainer.control.train_command import Options, train  # noqa: E402

note = StallWatch.note


def dying(self: StallWatch, records: Iterable[Record]) -> None:
    found = list(records)
    if any(getattr(record, "name", "") == "deadly" for record in found):
        raise KeyError("a fault of the supervisor's own")
    note(self, found)


StallWatch.note = dying  # type: ignore[method-assign]
sys.exit(train(Options(run_id=int(sys.argv[1]), quiet=True, script=tuple(sys.argv[2:]))))
