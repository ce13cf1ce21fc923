"""What people write about a run: its name, its description and the note of its review. Open pages get an event."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from runs.access.roles import display_name
from runs.audit.entries import record
from runs.models import LONGEST_NAME, AuditKind, Run
from runs.protocol.events import AboutChanged
from runs.recording import feed

LONGEST_DESCRIPTION = 20_000


class BadAbout(ValueError):
    """A name or a description is refused. `field` names which; the text is a sentence that says what to do."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


@dataclass(frozen=True, slots=True)
class Review:
    """The review of a run: the note in Markdown, who wrote it ("" if nobody is known), and when."""

    note: str
    by: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class About:
    """What people wrote about a run; the description is Markdown."""

    name: str
    description: str
    tags: list[str]
    archived: bool
    review: Review | None


def about_of(run_id: int) -> About:
    """Raises `Run.DoesNotExist` if there is no such run."""
    run = Run.objects.select_related("reviewed_by").prefetch_related("tags").get(pk=run_id)
    review = None
    if run.reviewed_at is not None or run.review_note:
        by = display_name(run.reviewed_by) if run.reviewed_by else ""
        review = Review(run.review_note, by, run.reviewed_at)
    return About(
        name=run.name,
        description=run.description,
        tags=[tag.name for tag in run.tags.all()],
        archived=run.archived_at is not None,
        review=review,
    )


def change_about(
    run_id: int,
    name: str | None = None,
    description: str | None = None,
    *,
    review: str | None = None,
    reviewer: AbstractBaseUser | None = None,
) -> None:
    """Rename a run, or describe or review it anew in Markdown; None leaves a text as it is.

    With a new note of the review, `reviewer` becomes its author; an empty one withdraws the review.
    Raises `BadAbout` if a text is refused, `Run.DoesNotExist` if there is no such run.
    """
    wanted: dict[str, str] = {}
    if name is not None:
        wanted["name"] = _name(name)
    if description is not None:
        wanted["description"] = _written(description, "description")
    if review is not None:
        wanted["review_note"] = _written(review, "review")
    with transaction.atomic():
        run = Run.objects.select_for_update(of=("self",)).select_related("project").get(pk=run_id)
        changed = {field: text for field, text in wanted.items() if getattr(run, field) != text}
        if not changed:
            return
        reviewed = _reviewed(changed["review_note"], reviewer) if "review_note" in changed else {}
        Run.objects.filter(pk=run_id).update(**changed, **reviewed)
        if "name" in changed:
            detail = f"{run.name} → {changed['name']}"
            record(AuditKind.RUN_RENAMED, project=run.project, run=run_id, what=changed["name"], detail=detail)
        if "description" in changed:
            record(AuditKind.RUN_DESCRIBED, project=run.project, run=run_id, what=changed.get("name", run.name))
        if reviewed:
            named = changed.get("name", run.name)
            record(AuditKind.RUN_DESCRIBED, project=run.project, run=run_id, what=named, detail="review")
        notify_viewers(run_id)


def notify_viewers(run_id: int) -> None:
    """Let open pages of the run read again what people have written about it. Call inside the change's transaction."""
    feed.append(run_id, AboutChanged())


def _name(text: str) -> str:
    name = " ".join(text.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        said = _("Give the run a name of 1 to %(most)d printable characters.")
        raise BadAbout("name", said % {"most": LONGEST_NAME})
    return name


def _reviewed(note: str, reviewer: AbstractBaseUser | None) -> dict[str, Any]:
    by, at = (reviewer, timezone.now()) if note else (None, None)
    return {"reviewed_by": by, "reviewed_at": at}


def _written(text: str, field: str) -> str:
    """Return a text of several lines; `field`, "description" or "review", is named if it is refused."""
    # Browsers send line breaks of a text field as CR LF.
    written = text.replace("\r\n", "\n").strip()
    if len(written) > LONGEST_DESCRIPTION:
        said = (
            _("Shorten the review: it has %(length)d characters, but at most %(most)d are allowed.")
            if field == "review"
            else _("Shorten the description: it has %(length)d characters, but at most %(most)d are allowed.")
        )
        raise BadAbout(field, said % {"length": len(written), "most": LONGEST_DESCRIPTION})
    if "\0" in written:
        said = (
            _("The review contains a NUL character. Remove it.")
            if field == "review"
            else _("The description contains a NUL character. Remove it.")
        )
        raise BadAbout(field, said)
    return written
