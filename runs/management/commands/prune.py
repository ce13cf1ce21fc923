"""`manage.py prune`: applies the retention rules of projects to ended runs, or prints what they would remove."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError
from django.db import connection
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from runs.models import LARGEST_ID, Checkpoint, Project, Run
from runs.pruning.prune import Pruned, due, prune
from runs.pruning.space import give_back, rebuild
from runs.recording.checkpoints import mark_checkpoint

# For shrinking the SQLite file at the end.
GIVE_BACK_WITHIN_S = 600.0


class Command(BaseCommand):
    help = (
        "Thin the points and remove checkpoints of runs that have ended, by the rules of their projects. A project "
        "without rules keeps everything. Epochs, console, commands and alerts are always kept."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only print what would be removed, for each run")
        parser.add_argument("--project", default="", metavar="SHORT_NAME", help="only runs of this project")
        parser.add_argument("--run-id", type=int, metavar="N", help="only this run")
        parser.add_argument(
            "--keep",
            type=int,
            metavar="CHECKPOINT",
            help="do not prune; mark the checkpoint with this id, so that pruning keeps it",
        )
        parser.add_argument(
            "--release",
            type=int,
            metavar="CHECKPOINT",
            help="do not prune; remove the mark of the checkpoint with this id",
        )
        parser.add_argument(
            "--rebuild",
            action="store_true",
            help="do not prune; rewrite the SQLite file once, so that later deletions free space on the disk",
        )

    def handle(self, **options: Any) -> None:
        if options["rebuild"]:
            self._rebuild()
            return
        for name in ("keep", "release"):
            if options[name] is not None:
                self._mark(options[name], name)
                return
        dry = bool(options["dry_run"])
        project, run_id = options["project"], options["run_id"]
        if project and not Project.objects.filter(slug=project).exists():
            raise CommandError(f"--project: there is no project {project!r}; give its short name.")
        if run_id is not None and not Run.objects.filter(pk=run_id).exists():
            raise CommandError(f"--run-id: there is no run {run_id}; give the number in the address of its page.")
        taken: list[Pruned] = []
        for run in due(project, run_id).iterator(chunk_size=100):
            pruned = prune(run, Path(settings.STEERSMAN_DATA), timezone.now(), dry=dry)
            if not pruned.is_nothing:
                taken.append(pruned)
                self.stdout.write(described(pruned, dry))
        points = sum(each.points_before - each.points_after for each in taken)
        size = sum(each.point_bytes + each.checkpoint_bytes for each in taken)
        verb = "would go" if dry else "went"
        self.stdout.write(f"{len(taken)} runs: {points} points and {_size(size)} {verb}.")
        if not dry:
            give_back(GIVE_BACK_WITHIN_S)

    def _mark(self, pk: int, name: str) -> None:
        checkpoint = Checkpoint.objects.filter(pk=pk).first() if 0 < pk <= LARGEST_ID else None
        if checkpoint is None:
            raise CommandError(f"--{name}: there is no checkpoint {pk}; the API lists those of a run.")
        mark_checkpoint(checkpoint, name == "keep")
        self.stdout.write(f"checkpoint {pk}: " + ("no rule removes it" if name == "keep" else "the rules apply to it"))

    def _rebuild(self) -> None:
        if connection.vendor != "sqlite":
            raise CommandError("--rebuild is for SQLite; PostgreSQL frees space with its autovacuum.")
        try:
            rebuild()
        except DatabaseError as error:
            raise CommandError(
                f"--rebuild failed ({error}). The SQLite database was not changed. Stop all trainings and the portal, "
                "make sure that the disk has space for a second copy of the database, and try again."
            ) from None
        self.stdout.write("The database file was rewritten. From now on, deletions free space on the disk.")


def described(pruned: Pruned, dry: bool) -> str:
    """Return a sentence about what a pruning removed from a run, or would remove."""
    parts = []
    if pruned.point_bytes:
        verb = "would become" if dry else "became"
        parts.append(f"{pruned.points_before} points {verb} {pruned.points_after}, {_size(pruned.point_bytes)} less")
    if pruned.checkpoints:
        verb = "would be removed" if dry else "were removed"
        parts.append(f"{pruned.checkpoints} checkpoints of {_size(pruned.checkpoint_bytes)} {verb}")
    if pruned.elsewhere:
        parts.append(f"{pruned.elsewhere} checkpoints are on other hosts: run manage.py prune there too")
    return f"run {pruned.run.pk} {pruned.run.name}: {'; '.join(parts)}"


def _size(number: int) -> str:
    return filesizeformat(number).replace("\xa0", " ")
