"""The order of a list of runs: live runs first, then the requested order."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Case, F, IntegerField, Value, When
from django.db.models.expressions import OrderBy

from runs.models import RunQuerySet
from runs.protocol.states import LIVE
from runs.selection.expressions import ParameterText
from runs.selection.fields import PARAMETER, Field, Kind, field_of


@dataclass(frozen=True, slots=True)
class Order:
    """A field, and whether the greatest value comes first. Without a field, the newest run comes first."""

    field: Field | None = None
    descending: bool = True

    def __str__(self) -> str:
        if self.field is None:
            return ""
        return f"-{self.field.key}" if self.descending else self.field.key

    def toggled(self, field: Field) -> Order:
        """Return the order after a click on the head of a column: numbers first sort descending, texts ascending."""
        if self.field is not None and self.field.key == field.key:
            return Order(field, not self.descending)
        return Order(field, field.kind is not Kind.TEXT)


def parse_order(text: str) -> Order:
    """Return the order that `text` names, such as `-loss`; the newest first if it names none."""
    descending = text.startswith("-")
    field = field_of(text[1:] if descending else text)
    return Order(field, descending) if field is not None else Order()


def ordered(runs: RunQuerySet, order: Order, *, live_first: bool = True) -> RunQuerySet:
    """Return `runs` in an order. Runs without the value come last; of equal ones, the newest comes first."""
    keys: list[str | OrderBy] = []
    if live_first:
        runs = runs.alias(band=Case(When(state__in=LIVE, then=Value(0)), default=Value(1), output_field=IntegerField()))
        keys.append("band")
    if order.field is not None:
        expression = order.field.expression()
        runs = runs.alias(sorted_by=expression)
        keys.append(_directed("sorted_by", order.descending))
        if order.field.kind is Kind.PARAMETER:
            # Values that are not numbers are sorted by their text.
            runs = runs.alias(sorted_by_text=ParameterText(order.field.key.removeprefix(PARAMETER)))
            keys.append(_directed("sorted_by_text", order.descending))
    return runs.order_by(*keys, "-pk")


def _directed(name: str, descending: bool) -> OrderBy:
    return F(name).desc(nulls_last=True) if descending else F(name).asc(nulls_last=True)
