"""Applies a search to runs, and reports its errors in sentences."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, User
from django.db.models import F, FloatField, Q, Value
from django.db.models.functions import Cast, Concat
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext as _

from runs.models import RunQuerySet, RunState
from runs.selection.expressions import ParameterNumber, ParameterText, has_host, has_tag
from runs.selection.fields import PARAMETER, Field, Kind, find_field
from runs.selection.search import Search, Term

ORDERS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
TEXT_SIGNS = ("=", "!=", "~")
NUMBER_SIGNS = ("=", "!=", *ORDERS)
ME = ("me", "我")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
# Integers in the database have 64 bits.
_LARGEST_NUMBER = 2.0**63


class NotUnderstood(Exception):
    """A term cannot be used; the text explains it to its author."""


@dataclass(frozen=True, slots=True)
class Narrowed:
    """The runs that a search matches. `problems` has a sentence for each term that was left out."""

    runs: RunQuerySet
    problems: tuple[str, ...] = ()


def narrow(runs: RunQuerySet, search: Search, user: AbstractBaseUser | AnonymousUser) -> Narrowed:
    """Return those of `runs` that match every word and every term of `search`.

    Queries the database only for names that are not properties of a run.
    """
    found = runs
    for word in search.words:
        found = found.filter(_has_word(word))
    problems = []
    for place, term in enumerate(search.terms):
        try:
            found = _with_term(found, runs, term, f"term_{place}", user)
        except NotUnderstood as error:
            problems.append(str(error))
    return Narrowed(found, tuple(problems))


def _has_word(word: str) -> Q:
    """Return whether a text that describes a run contains the word, or whether the word is its number.

    Tags, hosts and people are found first, as in `has_tag`.
    """
    found = Q()
    for name in ("name", "recipe__spec", "reason", "description", "queued_host"):
        found |= Q(**{f"{name}__icontains": word})
    found |= has_tag(word, part=True) | has_host(word)
    people = User.objects.alias(full_name=Concat("first_name", Value(" "), "last_name"))
    called = people.filter(Q(username__icontains=word) | Q(full_name__icontains=word))
    found |= Q(created_by__in=called.order_by().values("pk"))
    number = word.removeprefix("#")
    if number.isdecimal() and len(number) < 19:
        found |= Q(pk=int(number))
    return found


def _with_term(
    found: RunQuerySet, all_runs: RunQuerySet, term: Term, alias: str, user: AbstractBaseUser | AnonymousUser
) -> RunQuerySet:
    field = find_field(term.name, all_runs)
    if field is None:
        text = _("“%(name)s” is not a column, a parameter or a series of any run that you can see.")
        raise NotUnderstood(text % {"name": term.name})
    if not term.value and term.sign in ("=", "!="):
        return _with_nothing(found, field, term.sign, alias)
    if field.kind is Kind.PARAMETER:
        return _with_parameter(found, field, term, alias)
    if field.kind is Kind.TEXT:
        return _with_text(found, field, term, alias, user)
    _check_sign(term, NUMBER_SIGNS)
    value = _moment(term) if field.kind is Kind.MOMENT else _number(term, field)
    return _compared(found.alias(**{alias: field.expression()}), alias, term.sign, value)


def _with_nothing(found: RunQuerySet, field: Field, sign: str, alias: str) -> RunQuerySet:
    """Return those that lack what `field` names, as by `tag = ""`; by != those that have it."""
    if field.kind is Kind.PARAMETER:
        found = found.alias(**{alias: ParameterText(field.key.removeprefix(PARAMETER))})
    else:
        found = found.alias(**{alias: field.expression()})
    missing = Q(**{f"{alias}__isnull": True})
    if field.kind in (Kind.TEXT, Kind.PARAMETER):
        missing |= Q(**{alias: ""})
    return found.filter(missing) if sign == "=" else found.exclude(missing)


def _with_text(
    found: RunQuerySet, field: Field, term: Term, alias: str, user: AbstractBaseUser | AnonymousUser
) -> RunQuerySet:
    _check_sign(term, TEXT_SIGNS)
    value = term.value
    if field.key == "author":
        return _where(found, _author(value, term.sign, user), term.sign, "created_by")
    if field.key == "tag":
        has = has_tag(value, part=term.sign == "~")
        return found.exclude(has) if term.sign == "!=" else found.filter(has)
    if field.key == "state":
        value = _state(value) if term.sign != "~" else value
    if field.key == "project" and term.sign != "~":
        return _where(found, Q(project__name__iexact=value) | Q(project__slug=value), term.sign, "project")
    lookup = "icontains" if term.sign == "~" else "iexact"
    return _where(found.alias(**{alias: field.expression()}), Q(**{f"{alias}__{lookup}": value}), term.sign, alias)


def _with_parameter(found: RunQuerySet, field: Field, term: Term, alias: str) -> RunQuerySet:
    name = field.key.removeprefix(PARAMETER)
    number = _as_number(term.value)
    if term.sign in ORDERS or (term.sign in ("=", "!=") and number is not None):
        if number is None:
            raise NotUnderstood(_not_a_number(term))
        return _compared(found.alias(**{alias: ParameterNumber(name)}), alias, term.sign, number)
    lookup = "icontains" if term.sign == "~" else "iexact"
    return _where(
        found.alias(**{alias: ParameterText(name)}), Q(**{f"{alias}__{lookup}": term.value}), term.sign, alias
    )


def _compared(found: RunQuerySet, alias: str, sign: str, value: float | datetime) -> RunQuerySet:
    if sign in ORDERS:
        return found.filter(**{f"{alias}__{ORDERS[sign]}": value})
    if isinstance(value, float) and not value.is_integer():
        # A value that was logged as 0.1 is found by 0.1, whether it was stored as float32 or float64.
        near = found.alias(**{f"{alias}_number": Cast(F(alias), FloatField())})
        width = max(abs(value) * 1e-6, 1e-300)
        near_value = Q(**{f"{alias}_number__gte": value - width, f"{alias}_number__lte": value + width})
        return _where(near, near_value, sign, alias)
    return _where(found, Q(**{alias: value}), sign, alias)


def _where(found: RunQuerySet, condition: Q, sign: str, alias: str) -> RunQuerySet:
    """Return those that meet a condition on the expression `alias`; with !=, all others, also those without a value."""
    if sign != "!=":
        return found.filter(condition)
    return found.exclude(condition & Q(**{f"{alias}__isnull": False}))


def _author(value: str, sign: str, user: AbstractBaseUser | AnonymousUser) -> Q:
    if value.casefold() in ME and sign != "~":
        return Q(created_by_id=user.pk)
    lookup = "icontains" if sign == "~" else "iexact"
    names = ("username", "first_name", "last_name")
    condition = Q()
    for name in names:
        condition |= Q(**{f"created_by__{name}__{lookup}": value})
    first, _blank, last = value.partition(" ")
    if last and sign != "~":
        condition |= Q(created_by__first_name__iexact=first, created_by__last_name__iexact=last)
    return condition


def _state(value: str) -> str:
    """Return the state of this name, in English or in the reader's language."""
    for state in RunState:
        if value.casefold() in (state.value, str(state.label).casefold()):
            return state.value
    states = ", ".join(str(state.label) for state in RunState)
    raise NotUnderstood(_("“%(value)s” is not a state. States are: %(states)s.") % {"value": value, "states": states})


def _check_sign(term: Term, signs: tuple[str, ...]) -> None:
    if term.sign not in signs:
        text = _("“%(name)s” cannot be compared with %(sign)s. Use one of %(signs)s.")
        raise NotUnderstood(text % {"name": term.name, "sign": term.sign, "signs": " ".join(signs)})


def _number(term: Term, field: Field) -> float:
    if field.kind is Kind.DURATION and (found := _DURATION.fullmatch(term.value)):
        return float(found[1]) * _SECONDS[found[2]]
    number = _as_number(term.value)
    if number is None:
        raise NotUnderstood(_not_a_number(term))
    return number


def _not_a_number(term: Term) -> str:
    text = _("“%(name)s” is a number, but “%(value)s” is not. Write it as 0.001 or 1e-3.")
    return text % {"name": term.name, "value": term.value}


def _as_number(text: str) -> float | None:
    try:
        number = float(text.replace("_", " ").removeprefix("#"))
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) < _LARGEST_NUMBER else None


def _moment(term: Term) -> datetime:
    """Return the time of a date, of a date with time, or of a period before now such as 3d."""
    if found := _DURATION.fullmatch(term.value):
        try:
            return timezone.now() - timedelta(seconds=float(found[1]) * _SECONDS[found[2]])
        except OverflowError:
            pass
    try:
        day = parse_date(term.value)
        at = datetime.combine(day, time()) if day is not None else parse_datetime(term.value)
    except ValueError:
        at = None
    if at is None:
        text = _(
            "“%(name)s” is a time, but “%(value)s” is not. Write a date such as 2026-01-31, or a period before now "
            "such as 3d."
        )
        raise NotUnderstood(text % {"name": term.name, "value": term.value})
    return at if timezone.is_aware(at) else timezone.make_aware(at)
