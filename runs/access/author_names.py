"""Names of authors in the command log. Full names can be chosen freely: login names distinguish names that look
alike."""

from __future__ import annotations

import signal
import unicodedata

from django.contrib.auth.models import User

from runs.access.roles import Viewer, display_name
from runs.models import COMMAND_LINE

# As many characters as the ledger keeps.
LONGEST = 150
# Cyrillic and Greek letters that look like Latin ones, after `str.casefold`; then 0, 1, ı and I, which do so too.
LOOK_ALIKE = str.maketrans("аеорсухіјѕԁһкмтвнӏԛԝѵүοανρτυκιβε01ıi", "aeopcyxljsdhkmtbhlqwvyoavptuklbeolll")  # noqa: RUF001
# Names of these letters alone look Latin, in one case or the other.
LATIN_LOOKS = frozenset("АаВЕеЗзКкМмНнОоРрСсТтУуХхІіЈјЅѕԀԁҺһԚԛԜԝӀӏҮүѴѵЬьАΑαΒβΕΖΗηΙιΚκΜΝνΟοΡρΤτΥυΧχγσ")  # noqa: RUF001
# The scripts of most names. Of others many letters look like Latin ones.
SCRIPTS = frozenset({"LATIN", "CYRILLIC", "GREEK", "CJK", "HANGUL", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA",
                     "ARABIC", "HEBREW", "DEVANAGARI", "THAI"})  # fmt: skip
# Those that a name may mix: no letter of one looks like one of another.
MIXED = frozenset({"LATIN", "CJK", "HANGUL", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"})
# Beyond Latin Extended-A, and not composed of a letter and its accents, are signs of phonetics.
LAST_LATIN = "\u017f"
# Authors that are not persons; those of rules begin with "rule ".
NO_PERSONS = (COMMAND_LINE, "make demo", "former member", *signal.Signals.__members__)


def distinct_name(user: User, project_id: int, shown: str) -> str:
    """Return `shown`, a user's display name with or without that of a token, with the login name where it is needed.

    That is if somebody else of the project, or an author that is no person, could be meant. Costs a query where the
    user has a full name.
    """
    name = display_name(user)
    if name == user.get_username() or not shown.startswith(name):
        return shown
    if not _is_unclear(name, user, project_id):
        return shown
    login = f" ({user.get_username()})"
    # The login is what counts: it is kept before the end of a name, and before the name of a token.
    return f"{name[: max(1, LONGEST - len(login))]}{login}{shown.removeprefix(name)}"[:LONGEST]


def name_of(viewer: Viewer, project_id: int) -> str:
    """Return the name of a viewer as the record of a project's run keeps it: see `distinct_name`."""
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
    """Return what is left of a name to somebody who reads fast: letters and digits, as Latin ones, without accents."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold()).translate(LOOK_ALIKE)
    return "".join(each for each in plain if each.isalnum()).replace("rn", "m").replace("vv", "w")


def _has_odd_letters(name: str) -> bool:
    """Return whether a name holds letters that may look like others, or like nothing, to who reads them."""
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
