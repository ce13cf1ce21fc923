"""Names of authors in the command log. People choose full names freely, so login names distinguish similar ones."""

from __future__ import annotations

import signal
import unicodedata

from django.contrib.auth.models import User

from runs.access.roles import Viewer, display_name
from runs.models import COMMAND_LINE

# The length of the column in the command log.
LONGEST = 150
# Cyrillic and Greek letters that look like Latin ones after `str.casefold`; then 0, 1, ı and I, which look like
# letters.
LOOK_ALIKE = str.maketrans("аеорсухіјѕԁһкмтвнӏԛԝѵүοανρτυκιβε01ıi", "aeopcyxljsdhkmtbhlqwvyoavptuklbeolll")  # noqa: RUF001
# A name that contains only these letters looks Latin in upper or lower case.
LATIN_LOOKS = frozenset("АаВЕеЗзКкМмНнОоРрСсТтУуХхІіЈјЅѕԀԁҺһԚԛԜԝӀӏҮүѴѵЬьАΑαΒβΕΖΗηΙιΚκΜΝνΟοΡρΤτΥυΧχγσ")  # noqa: RUF001
# The scripts of most names. Other scripts have many letters that look like Latin ones.
SCRIPTS = frozenset({"LATIN", "CYRILLIC", "GREEK", "CJK", "HANGUL", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA",
                     "ARABIC", "HEBREW", "DEVANAGARI", "THAI"})  # fmt: skip
# Scripts that one name may mix, because no letter of one looks like a letter of another.
MIXED = frozenset({"LATIN", "CJK", "HANGUL", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"})
# Letters after Latin Extended-A that are not a base letter with accents are phonetic signs.
LAST_LATIN = "\u017f"
# Authors that are not people; the names of rules begin with "rule ".
NO_PERSONS = (COMMAND_LINE, "make demo", "former member", *signal.Signals.__members__)


def distinct_name(user: User, project_id: int, shown: str) -> str:
    """Return `shown`, a user's display name with or without a token's name, and add the login name if needed.

    It is needed if the name could also mean another member, or an author that is not a person. Costs a query if the
    user has a full name.
    """
    name = display_name(user)
    if name == user.get_username() or not shown.startswith(name):
        return shown
    if not _is_unclear(name, user, project_id):
        return shown
    login = f" ({user.get_username()})"
    # The login name identifies the user, so the full name and the token's name are cut first.
    return f"{name[: max(1, LONGEST - len(login))]}{login}{shown.removeprefix(name)}"[:LONGEST]


def name_of(viewer: Viewer, project_id: int) -> str:
    """Return a viewer's name as it is stored in a project's records: see `distinct_name`."""
    user = User.objects.filter(pk=viewer.user_id).first() if viewer.user_id is not None else None
    return distinct_name(user, project_id, viewer.name) if user else viewer.name


def _is_unclear(name: str, user: User, project_id: int) -> bool:
    own = _look(name)
    if not own or "(" in name or own.startswith(_look("rule ")) or own in map(_look, NO_PERSONS):
        return True
    if _has_odd_letters(name):
        return True
    others = User.objects.filter(memberships__project=project_id).exclude(pk=user.pk)
    return any(own in (_look(display_name(other)), _look(other.get_username())) for other in others)


def _look(name: str) -> str:
    """Return a name as a hasty reader sees it: letters and digits, as Latin ones, without accents."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold()).translate(LOOK_ALIKE)
    return "".join(each for each in plain if each.isalnum()).replace("rn", "m").replace("vv", "w")


def _has_odd_letters(name: str) -> bool:
    """Return whether a name contains letters that look like others, or are invisible."""
    letters = [each for each in unicodedata.normalize("NFKD", name) if each.isalpha()]
    named = [unicodedata.name(each, "") for each in letters]
    scripts = {each.partition(" ")[0] for each in named}
    return (
        not scripts <= SCRIPTS
        or (len(scripts) > 1 and not scripts <= MIXED)
        or any("FILLER" in each for each in named)
        or any(name.startswith("LATIN") and each > LAST_LATIN for each, name in zip(letters, named, strict=True))
        or (scripts != {"LATIN"} and LATIN_LOOKS.issuperset(letters))
    )
