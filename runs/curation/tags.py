"""Tags of runs: their normal form, and their changes, which the audit records."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from django.db import transaction
from django.utils.translation import gettext as _

from runs.audit.entries import record
from runs.curation.about import notify_viewers
from runs.models import LONGEST_TAG, AuditKind, Run, RunTag

MOST_TAGS = 20
# The comma separates tags in a field; the search uses quotation marks.
NOT_IN_TAGS = ',"'


class BadTag(ValueError):
    """A tag is invalid, or a run would have too many; the text is a sentence that says what to do."""


def tag_name(text: str) -> str:
    """Return `text` as tags are stored: in lower case, with single spaces. Raises `BadTag`."""
    name = " ".join(unicodedata.normalize("NFC", text).split()).lower()
    if not name or len(name) > LONGEST_TAG or not name.isprintable() or any(sign in name for sign in NOT_IN_TAGS):
        said = _("%(tag)s is not a valid tag: use 1 to %(most)d characters, without commas or quotation marks.")
        raise BadTag(
            said % {"tag": ascii(text[:100]) if not text.isprintable() else f"“{text[:100]}”", "most": LONGEST_TAG}
        )
    return name


def split_tags(text: str) -> list[str]:
    """Return the tags in a field, where commas separate them. Raises `BadTag`."""
    return list(dict.fromkeys(tag_name(part) for part in text.split(",") if part.strip()))


def change_tags(run_id: int, add: Iterable[str] = (), remove: Iterable[str] = ()) -> list[str]:
    """Add and remove tags of a run; return its tags afterwards. Tags must be as `tag_name` returns them.

    Raises `BadTag` if it would have more than `MOST_TAGS`, `Run.DoesNotExist` if there is no such run.
    """
    with transaction.atomic():
        # Locked, so that the second of two concurrent changes counts the tags of the first.
        run = Run.objects.select_for_update(of=("self",)).select_related("project").get(pk=run_id)
        had = set(run.tags.values_list("name", flat=True))
        wanted = (had - set(remove)) | set(add)
        if len(wanted) > MOST_TAGS and len(wanted) > len(had):
            raise BadTag(_("A run has at most %(most)d tags. Remove one first.") % {"most": MOST_TAGS})
        given, taken = sorted(wanted - had), sorted(had - wanted)
        RunTag.objects.bulk_create([RunTag(run=run, name=name) for name in given])
        run.tags.filter(name__in=taken).delete()
        if given or taken:
            detail = " ".join([*(f"+{name}" for name in given), *(f"−{name}" for name in taken)])
            record(AuditKind.TAGS_CHANGED, project=run.project, run=run.pk, what=run.name, detail=detail)
            notify_viewers(run.pk)
    return sorted(wanted)


def tags_of_projects(project_ids: Iterable[int]) -> list[str]:
    """Return the tags of those runs of these projects that are not archived."""
    tags = RunTag.objects.filter(run__project__in=project_ids, run__archived_at=None).order_by("name")
    return list(tags.values_list("name", flat=True).distinct())
