"""Database expressions for comparing and sorting runs."""

from __future__ import annotations

from typing import Any

from django.db.models import (
    CharField,
    ExpressionWrapper,
    F,
    FloatField,
    Func,
    Max,
    Min,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
)
from django.db.models.functions import Coalesce, NullIf

from runs.models import Attempt, EpochMetric, RunTag, Series
from runs.protocol.series_names import LOSS_NAMES

# Whether the least or the greatest value of an epoch metric is the best; other metrics have no best value.
BEST_OF = {"train_loss": Min, "train_accuracy": Max, "validation_loss": Min, "validation_accuracy": Max}


class ParameterNumber(Func):
    """A number among a run's parameters, or in another JSON column; null if it is not a number."""

    output_field = FloatField()

    def __init__(self, name: str, column: str = "parameters") -> None:
        super().__init__(F(column))
        self.name = name

    def as_sqlite(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, tuple[str | int, ...]]:
        column, _params = compiler.compile(self.source_expressions[0])
        number = "CASE WHEN {type} IN ('integer', 'real') THEN CAST({value} AS REAL) END"
        return _of_sqlite(number, column, self.name)

    def as_postgresql(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, tuple[str | int, ...]]:
        column, _params = compiler.compile(self.source_expressions[0])
        sql = (
            f"CASE WHEN jsonb_typeof({column} -> %s::text) = 'number' "
            f"THEN ({column} ->> %s::text)::double precision END"
        )
        return sql, (self.name, self.name)


class ParameterText(Func):
    """A parameter of a run as text: true and false for booleans, null if it is missing or null."""

    output_field = CharField()

    def __init__(self, name: str) -> None:
        super().__init__(F("parameters"))
        self.name = name

    def as_sqlite(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, tuple[str | int, ...]]:
        column, _params = compiler.compile(self.source_expressions[0])
        # Booleans have the values 0 and 1.
        text = "CASE WHEN {type} IN ('true', 'false') THEN {type} ELSE CAST({value} AS TEXT) END"
        return _of_sqlite(text, column, self.name)

    def as_postgresql(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, tuple[str | int, ...]]:
        column, _params = compiler.compile(self.source_expressions[0])
        return f"({column} ->> %s::text)", (self.name,)


class ParameterJson(Func):
    """A parameter of a run as the first element of a JSON array, whose text this is; null or `[null]` if it is missing.

    It is looked up once per row. `ParameterText` and `ParameterNumber` look up its type as well.
    """

    output_field = CharField()

    def __init__(self, name: str) -> None:
        super().__init__(F("parameters"))
        self.name = name

    def as_sqlite(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, tuple[str | int, ...]]:
        column, _params = compiler.compile(self.source_expressions[0])
        if '"' in self.name or "\\" in self.name:
            of_type = "CASE type WHEN 'true' THEN '[true]' WHEN 'false' THEN '[false]' ELSE JSON_ARRAY(value) END"
            return f"(SELECT {of_type} FROM JSON_EACH({column}) WHERE key = %s)", (self.name,)
        # Of one path it would return an SQL value, in which true is 1; of two an array of JSON.
        path = f'$."{self.name}"'
        return f"JSON_EXTRACT({column}, %s, %s)", (path, path)

    def as_postgresql(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, tuple[str | int, ...]]:
        column, _params = compiler.compile(self.source_expressions[0])
        return f"jsonb_build_array({column} -> %s::text)::text", (self.name,)


def _of_sqlite(sql: str, column: str, name: str) -> tuple[str, tuple[str | int, ...]]:
    """Fill the SQL for type and value of a parameter into `sql`."""
    if '"' in name or "\\" in name:
        # A JSON path cannot contain this name; scanning all parameters takes several times as long.
        each = sql.format(type="type", value="value")
        return f"(SELECT {each} FROM JSON_EACH({column}) WHERE key = %s)", (name,)
    filled = sql.format(type=f"JSON_TYPE({column}, %s)", value=f"JSON_EXTRACT({column}, %s)")
    return filled, (f'$."{name}"',) * sql.count("{")


def extreme_value(column: str, name: str) -> Subquery:
    """Return the least or greatest value of a series, as `column` names it."""
    return Subquery(
        Series.objects.filter(run=OuterRef("pk"), name=name).order_by().values(column)[:1], output_field=FloatField()
    )


def last_value(*names: str) -> Subquery:
    """Return the last value of a series with one of these names, of the newest if there are several."""
    named = Series.objects.filter(run=OuterRef("pk"))
    # A run has only one series with a name, so there is nothing to sort.
    newest = named.filter(name=names[0]).order_by() if len(names) == 1 else _newest(named, names)
    return Subquery(newest.values("last_value")[:1], output_field=FloatField())


def _newest(series: QuerySet[Series], names: tuple[str, ...]) -> QuerySet[Series]:
    return series.filter(name__in=names).order_by("-last_time")


def last_loss() -> Subquery:
    return last_value(*LOSS_NAMES)


def epoch_value(name: str) -> Subquery:
    """Return a metric of the last epoch of a run that counts."""
    epochs = EpochMetric.objects.filter(run=OuterRef("pk")).counted().order_by("-attempt", "-epoch", "-order")
    value = F(name) if name in EpochMetric.COLUMNS else ParameterNumber(name, "extra")
    return Subquery(epochs.annotate(measure=value).values("measure")[:1], output_field=FloatField())


def best_epoch_value(name: str) -> Subquery:
    """Return the best value of a metric in all epochs of a run that count, for a name in `BEST_OF`."""
    epochs = EpochMetric.objects.filter(run=OuterRef("pk")).counted().order_by().values("run")
    return Subquery(epochs.annotate(measure=BEST_OF[name](name)).values("measure"), output_field=FloatField())


def last_host() -> Coalesce:
    """Return the host of the last attempt, or the host on which a waiting run is to start."""
    newest = Attempt.objects.filter(run=OuterRef("pk")).order_by("-number")
    return Coalesce(Subquery(newest.values("host")[:1]), NullIf(F("queued_host"), Value("")), output_field=CharField())


def first_tag() -> Subquery:
    """Return the first tag of a run in alphabetical order."""
    return Subquery(RunTag.objects.filter(run=OuterRef("pk")).order_by("name").values("name")[:1])


def has_tag(name: str, *, part: bool = False) -> Q:
    """Return whether a run has this tag, or with `part` a tag that contains the text.

    The runs with the tag are found first: SQLite would evaluate a subquery of each run after all other conditions.
    """
    lookup = {"name__contains" if part else "name": name.lower()}
    return Q(pk__in=RunTag.objects.filter(**lookup).order_by().values("run"))


def has_host(part: str) -> Q:
    """Return whether an attempt of a run was on a host whose name contains the text; like `has_tag`."""
    return Q(pk__in=Attempt.objects.filter(host__icontains=part).order_by().values("run"))


def gpu_hours() -> ExpressionWrapper:
    """Return the hours of ended attempts times their GPUs. Those of the current one are counted when it ends."""
    return ExpressionWrapper(F("gpu_s") / 3600.0, output_field=FloatField())


def progress() -> Coalesce:
    """Return the completed part of the planned steps or epochs in percent; null if neither is planned."""
    steps = 100.0 * F("step") / NullIf(F("total_steps"), Value(0))
    epochs = 100.0 * F("epoch") / NullIf(F("total_epochs"), Value(0))
    return Coalesce(steps, epochs, output_field=FloatField())
