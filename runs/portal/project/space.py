"""The space that a project uses beside its checkpoints: points in the database, and files on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings
from django.core.cache import cache
from django.db.models import Sum
from django.db.models.functions import Length

from runs.models import Chunk, ChunkPlaces, Project, Run

# With thousands of runs, it takes a second: people who open the page one after another share the answer.
KEPT_S = 300
# A script may write any number of files: they are counted for this long.
LONGEST_COUNT_S = 5.0
# After this time, a measurement in another thread counts as ended without an answer.
LONGEST_MEASURE_S = 60
PACKED = ("coarse", "fine", "buckets", "points")
# They are counted by their rows, wherever they are.
CHECKPOINTS = "checkpoints"
# The folder of a run for what its script writes.
OF_SCRIPT = "files"


@dataclass(slots=True)
class Space:
    """Bytes by what they are used for. Files are those of runs of the project in the data folder of this portal.

    Without `is_whole`, there are more files than could be counted.
    """

    points: int = 0
    journals: int = 0
    consoles: int = 0
    scripts: int = 0
    others: int = 0
    is_whole: bool = True
    total: int = field(init=False, default=0)

    def add_file(self, name: str, size: int, *, of_script: bool) -> None:
        """Count a file of a run by its name."""
        if of_script:
            self.scripts += size
        elif name.startswith("journal-"):
            self.journals += size
        elif name.startswith("console"):
            self.consoles += size
        else:
            self.others += size


def space_of(project: Project) -> Space | None:
    """Return the space that a project used within the last five minutes, None while another request measures it.

    Two queries, and a look at its files.
    """
    found: Space | None = cache.get(key := f"project-space-{project.pk}")
    if found is None and cache.add(measuring := f"{key}-measuring", True, LONGEST_MEASURE_S):
        try:
            found = _measure(project)
            cache.set(key, found, KEPT_S)
        finally:
            cache.delete(measuring)
    return found


def _measure(project: Project) -> Space:
    space = Space()
    for rows in (Chunk.objects.filter(series__run__project=project), ChunkPlaces.objects.filter(run__project=project)):
        # The database has the length of a column in its row, and does not read the column.
        sizes = rows.order_by().aggregate(**{name: Sum(Length(name)) for name in PACKED})
        space.points += sum(size or 0 for size in sizes.values())
    _add_files(space, Run.objects.filter(project=project).order_by().values_list("pk", flat=True))
    space.total = space.points + space.journals + space.consoles + space.scripts + space.others
    return space


def _add_files(space: Space, run_ids: Iterable[int]) -> None:
    folder = Path(settings.STEERSMAN_DATA) / "runs"
    try:
        present = set(os.listdir(folder))
    except FileNotFoundError:
        return
    until = time.monotonic() + LONGEST_COUNT_S
    for run_id in run_ids:
        if str(run_id) not in present:
            continue
        root = folder / str(run_id)
        for place, folders, names in os.walk(root):
            if time.monotonic() > until:
                space.is_whole = False
                return
            of_script = Path(place).relative_to(root).parts[:1] == (OF_SCRIPT,)
            if not of_script and CHECKPOINTS in folders:
                folders.remove(CHECKPOINTS)
            for name in names:
                try:
                    size = os.lstat(os.path.join(place, name)).st_size
                except FileNotFoundError:
                    continue
                space.add_file(name, size, of_script=of_script)
