"""Makes the folder of an attempt, with all that its training finds there. No Django, no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from steersman.agent.launch.spawn import worker_environment
from steersman.checkpoints.saved import write_resume
from steersman.files.changed_knobs import ChangedKnobs, write_changed_knobs
from steersman.files.journal_bound import JOURNAL_MIB_VARIABLE
from steersman.files.mailbox import Mailbox
from steersman.files.private import make_private
from steersman.run import START_PAUSED_VARIABLE


@dataclass(frozen=True, slots=True)
class ResumeFrom:
    """The checkpoint from which an attempt resumes: its folder, and the SHA-256 of its manifest."""

    folder: Path
    sha256: str


def make_attempt_folder(
    folder: Path,
    data: Path,
    packages: Path,
    *,
    resume: ResumeFrom | None,
    changed_knobs: ChangedKnobs,
    journal_mib: int,
    start_paused: bool = False,
) -> dict[str, str]:
    """Make `folder` for an attempt; return the environment of its training. `packages` contains `steersman`."""
    make_private(folder)
    Mailbox(folder).close()
    if resume is not None:
        write_resume(folder, resume.folder, resume.sha256)
    write_changed_knobs(folder, changed_knobs)
    environment = worker_environment(folder, data, packages, os.environ)
    environment[JOURNAL_MIB_VARIABLE] = str(journal_mib)
    environment[START_PAUSED_VARIABLE] = "1" if start_paused else "0"
    return environment
