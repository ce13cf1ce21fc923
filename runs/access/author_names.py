"""Names of those who steer, as the ledger keeps them. Full names are free: login names tell apart what looks alike."""

from __future__ import annotations

import signal
import unicodedata

from django.contrib.auth.models import User

from runs.access.roles import display_name
from runs.models import COMMAND_LINE

# Cyrillic and Greek letters that look like Latin ones, after `str.casefold`; then 0, 1 and I, which do so too.
LOOK_ALIKE = str.maketrans("аеорсухіјѕԁһкмтвнοανρτυκι01i", "aeopcyxljsdhkmtbhoavptukloll")  # noqa: RUF001
SCRIPTS = ("LATIN", "CYRILLIC", "GREEK")
# Authors that are no persons; those of rules begin with "rule ".
NO_PERSONS = (COMMAND_LINE, "make demo", "former member", *signal.Signals.__members__)


def distinct_name(user: User, project_id: int, shown: str) -> str:
    """Return `shown`, a user's display name with or without that of a token, with the login name where it is needed.

    That is where somebody else of the project, or an author that is no person, could be meant. Costs a query where the
    user has a full name.
    """
    name = display_name(user)
    if name == user.get_username() or not shown.startswith(name):
        return shown
    return f"{name} ({user.get_username()}){shown.removeprefix(name)}" if _is_unclear(name, user, project_id) else shown


def _is_unclear(name: str, user: User, project_id: int) -> bool:
    own = _look(name)
    if not own or "(" in name or own.startswith(_look("rule ")) or own in map(_look, NO_PERSONS):
        return True
    if _is_of_several_scripts(name):
        return True
    others = User.objects.filter(memberships__project=project_id).exclude(pk=user.pk)
    return any(own in (_look(display_name(other)), _look(other.get_username())) for other in others)


def _look(name: str) -> str:
    """Return what is left of a name to somebody who reads fast: letters and digits, as Latin ones, without accents."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold()).translate(LOOK_ALIKE)
    return "".join(each for each in plain if each.isalnum())


def _is_of_several_scripts(name: str) -> bool:
    named = {unicodedata.name(each, "").split(" ")[0] for each in name if each.isalpha()}
    return len(named.intersection(SCRIPTS)) > 1
