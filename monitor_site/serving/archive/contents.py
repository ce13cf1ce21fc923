"""The files of the data folder in a backup, which are held while they are copied. Does not use the database.

The files are hard links in a folder beside the runs, so that files which a training removes meanwhile can still be
copied.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from monitor_site.serving.archive.database import Snapshot
from monitor_site.serving.archive.manifest import RUNS, SECRET_KEY
from steersman.agent.folders import attempt_folder, run_folder
from steersman.files.checkpoint import MANIFEST
from steersman.files.journal import SYNC, decode, segment_path
from steersman.files.private import make_private
from steersman.records.kinds import CheckpointRecord

# Shared memory, locks and process ids, because a copy must not mistake the original's processes for its own.
LEFT_OUT = re.compile(
    r"mailbox|ranks|.*\.lock|.*\.tmp|.*\.new|worker(-\d+)?\.json|beside-.*\.json|node-client\.json|launch-.*\.json"
)
JOURNAL = re.compile(r"runs/(\d+)/attempts/(\d+)/journal-(\d+)-(\d+)\.bin")
CANNOT_LINK = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file to copy: its path in the data folder, the path to read it from, and its size when it was linked."""

    name: str
    path: Path
    size: int
    # Whether its content may still grow, because a training appends to it.
    grows: bool


@dataclass(slots=True)
class Contents:
    """The files of a backup. `missing` are the paths of checkpoints and journals in rows whose files do not exist."""

    entries: list[Entry] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    elsewhere: set[int] = field(default_factory=set)


def hold(data: Path, snapshot: Snapshot, held: Path, host: str) -> Contents:
    """Hold the files in the rows of `snapshot` by hard links in `held`. Raises `OSError`.

    Records that are appended after the snapshot are read from the journals when a run continues.
    """
    found = Contents()
    listed = {run_folder(data, run) / path for run, path in snapshot.checkpoints}
    for run in sorted({run for run, _, _ in snapshot.attempts}):
        for entry in _files(run_folder(data, run), listed):
            _hold(found, data, entry, held)
    _leave_out_unrecorded(found, data, snapshot, listed)
    secret = data / SECRET_KEY
    if secret.is_file():
        _hold(found, data, secret, held)
    held_names = {entry.name for entry in found.entries}
    there = {(run, number) for run, number, _ in snapshot.attempts if attempt_folder(data, run, number).is_dir()}
    for run, number, of_host in snapshot.attempts:
        if (run, number) not in there and of_host != host:
            found.elsewhere.add(run)
    for run, path in snapshot.checkpoints:
        name = f"{RUNS}/{run}/{path}"
        place = Path(path).parts[1:2]
        is_here = bool(place) and place[0].isdecimal() and (run, int(place[0])) in there
        # As everywhere, the manifest makes a folder a checkpoint, and is removed first.
        if is_here and not {name, f"{name}/{MANIFEST}"} & held_names:
            found.missing.add(name)
    for (run, number, rank), (segment, _) in snapshot.positions.items():
        name = str(segment_path(attempt_folder(data, run, number), rank, segment).relative_to(data))
        if (run, number) in there and name not in held_names:
            found.missing.add(name)
    return found


def release(held: Path) -> None:
    """Remove the links. Raises `OSError`."""
    if held.is_dir():
        shutil.rmtree(held)


def _files(run: Path, listed: set[Path]) -> Iterator[Path]:
    """Yield the files of a run: those of a folder before those of its subfolders, and a checkpoint's manifest last.

    Each folder is read in turn, so that the files in a journal's records exist when the journal is read.
    """
    for folder, below, names in os.walk(run):
        below.sort()
        place = Path(folder)
        # A checkpoint that is being written or removed, and has no row.
        if place.parent.name == "checkpoints" and MANIFEST not in names and place not in listed:
            below.clear()
            continue
        for name in sorted(names, key=lambda name: (name == MANIFEST, name)):
            if not LEFT_OUT.fullmatch(name):
                yield place / name


def _leave_out_unrecorded(found: Contents, data: Path, snapshot: Snapshot, listed: set[Path]) -> None:
    """Leave out checkpoints that are neither in a row nor in the copied part of a journal, because they are newer."""
    unlisted = {
        (data / entry.name).parent
        for entry in found.entries
        if Path(entry.name).name == MANIFEST and (data / entry.name).parent not in listed
    }
    if not unlisted:
        return
    recorded: set[Path] = set()
    for entry in found.entries:
        match = JOURNAL.fullmatch(entry.name)
        if match is not None:
            run, number, rank, segment = map(int, match.groups())
            read = snapshot.positions.get((run, number, rank), (0, 0))
            if segment >= read[0]:
                offset = read[1] if segment == read[0] else 0
                recorded |= {attempt_folder(data, run, number) / path for path in _recorded_checkpoints(entry, offset)}
    gone = unlisted - recorded
    found.entries = [entry for entry in found.entries if (data / entry.name).parent not in gone]


def _recorded_checkpoints(entry: Entry, offset: int) -> Iterator[str]:
    """Yield the paths of the checkpoints in a journal between `offset` and the end of its copied part."""
    with entry.path.open("rb") as file:
        file.seek(offset)
        tail = file.read(max(0, entry.size - offset))
    position = 0
    while position != -1 and position < len(tail):
        record, length = decode(tail, position)
        if isinstance(record, CheckpointRecord):
            yield record.path
        position = position + length if record is not None else tail.find(SYNC, position + 1)


def _hold(found: Contents, data: Path, path: Path, held: Path) -> None:
    name = str(path.relative_to(data))
    link = held / name
    try:
        # A link may lead to any file; sockets have no content.
        if not stat.S_ISREG(path.lstat().st_mode):
            return
        make_private(link.parent)
        try:
            os.link(path, link)
        except OSError as error:
            if error.errno not in CANNOT_LINK:
                raise
            link = path
        size = link.stat().st_size
    except FileNotFoundError:
        return
    found.entries.append(Entry(name, link, size, grows="checkpoints" not in path.parts))
