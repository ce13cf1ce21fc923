"""Updates, inserts and reads of rows whose SQL is built once per combination of names, and then only executed.

Like `QuerySet.update` and `bulk_create`, they send no signals. Names are those of columns in Python (`run_id`, not
`run`). Values are converted as in a `QuerySet`; errors of the database pass through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, Model

# Integers beyond 64 bits are in no column, and a database may refuse to compare with them.
LEAST_INTEGER, GREATEST_INTEGER = -(2**63), 2**63 - 1
# The combinations of names are few; inserts also differ by their number of rows.
KEPT_STATEMENTS = 512

AnyField: TypeAlias = "Field[Any, Any]"
# The name of a column, and the number of its allowed values; 0 if it must equal one.
Condition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Statement:
    sql: str
    fields: tuple[AnyField, ...]


def update(
    model: type[Model], where: Mapping[str, Any], values: Mapping[str, Any], add: Mapping[str, int] | None = None
) -> int:
    """Set columns to `values`, increase those of `add`, and return the number of changed rows.

    `where` has the required value of each column, or a tuple of allowed values. None is not among them.
    """
    added = add or {}
    statement = _update(model, _conditions(where), tuple(values), tuple(added))
    wanted = _flat(where)
    if not _are_possible(wanted):
        return 0
    connection = _connection()
    parameters = _prepared(connection, statement.fields, [*values.values(), *added.values(), *wanted])
    with transaction.mark_for_rollback_on_error(), connection.cursor() as cursor:
        cursor.execute(statement.sql, parameters)
        return int(cursor.rowcount)


def value_of(model: type[Model], name: str, where: Mapping[str, Any]) -> Any:
    """Return the value of a column of one row, as the database returns it. Raises `model.DoesNotExist`."""
    statement = _select(model, name, _conditions(where))
    wanted = _flat(where)
    found = None
    if _are_possible(wanted):
        connection = _connection()
        with connection.cursor() as cursor:
            cursor.execute(statement.sql, _prepared(connection, statement.fields, wanted))
            found = cursor.fetchone()
    if found is None:
        raise model.DoesNotExist(f"there is no row of {model.__name__} with {dict(where)}")  # type: ignore[attr-defined]
    return found[0]


def insert(
    model: type[Model],
    names: tuple[str, ...],
    rows: Sequence[Sequence[Any]],
    *,
    unique: tuple[str, ...] = (),
    overwritten: tuple[str, ...] = (),
    lowered: tuple[str, ...] = (),
    raised: tuple[str, ...] = (),
) -> None:
    """Insert rows with the columns `names`; the others get their defaults.

    If a row with the same columns `unique` exists, its columns `overwritten` get the new values, and those of `lowered`
    and `raised` the less and the greater of the old and the new value; null counts as none. Call inside a transaction:
    many rows take several statements.
    """
    connection, fields = _connection(), _fields(model, names)
    most = max(connection.ops.bulk_batch_size(_of_insert(model, names), rows), 1)
    for start in range(0, len(rows), most):
        taken = rows[start : start + most]
        statement = _insert(model, names, len(taken), unique, (overwritten, lowered, raised))
        others = [field.get_default() for field in statement.fields[len(names) :]]
        parameters: list[Any] = []
        for row in taken:
            parameters += _prepared(connection, fields, row)
            parameters += _prepared(connection, statement.fields[len(names) :], others)
        with transaction.mark_for_rollback_on_error(), connection.cursor() as cursor:
            cursor.execute(statement.sql, parameters)


def _conditions(where: Mapping[str, Any]) -> tuple[Condition, ...]:
    return tuple((name, len(value) if isinstance(value, tuple) else 0) for name, value in where.items())


def _flat(where: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = []
    for value in where.values():
        if isinstance(value, tuple):
            found += value
        else:
            found.append(value)
    return found


def _are_possible(wanted: Sequence[Any]) -> bool:
    return all(not isinstance(value, int) or LEAST_INTEGER <= value <= GREATEST_INTEGER for value in wanted)


def _connection() -> BaseDatabaseWrapper:
    # `django.db.connection` looks it up at each access.
    return connections[DEFAULT_DB_ALIAS]


def _prepared(connection: BaseDatabaseWrapper, fields: Sequence[AnyField], values: Sequence[Any]) -> list[Any]:
    return [field.get_db_prep_save(value, connection) for field, value in zip(fields, values, strict=True)]


@lru_cache(maxsize=KEPT_STATEMENTS)
def _update(
    model: type[Model], where: tuple[Condition, ...], values: tuple[str, ...], added: tuple[str, ...]
) -> _Statement:
    table, fields = _quoted(model._meta.db_table), _fields(model, (*values, *added))
    columns = [_column(field) for field in fields]
    changes = [f"{column} = %s" for column in columns[: len(values)]]
    changes += [f"{column} = {column} + %s" for column in columns[len(values) :]]
    condition, of_condition = _where(model, where)
    return _Statement(f"UPDATE {table} SET {', '.join(changes)} WHERE {condition}", (*fields, *of_condition))


@lru_cache(maxsize=KEPT_STATEMENTS)
def _select(model: type[Model], name: str, where: tuple[Condition, ...]) -> _Statement:
    (field,) = _fields(model, (name,))
    condition, of_condition = _where(model, where)
    return _Statement(f"SELECT {_column(field)} FROM {_quoted(model._meta.db_table)} WHERE {condition}", of_condition)


@lru_cache(maxsize=KEPT_STATEMENTS)
def _insert(
    model: type[Model],
    names: tuple[str, ...],
    count: int,
    unique: tuple[str, ...],
    changed: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]],
) -> _Statement:
    fields = _of_insert(model, names)
    columns = ", ".join(_column(field) for field in fields)
    row = f"({', '.join(['%s'] * len(fields))})"
    sql = f"INSERT INTO {_quoted(model._meta.db_table)} ({columns}) VALUES {', '.join([row] * count)}"
    if unique:
        known = ", ".join(_column(field) for field in _fields(model, unique))
        overwritten, lowered, raised = ([_column(field) for field in _fields(model, each)] for each in changed)
        changes = [f"{each} = EXCLUDED.{each}" for each in overwritten]
        table = _quoted(model._meta.db_table)
        for sign, columns_of_sign in (("<", lowered), (">", raised)):
            for each in columns_of_sign:
                old, new = f"{table}.{each}", f"EXCLUDED.{each}"
                changes.append(f"{each} = CASE WHEN {old} IS NULL OR {new} {sign} {old} THEN {new} ELSE {old} END")
        sql += f" ON CONFLICT ({known}) DO UPDATE SET {', '.join(changes)}"
    return _Statement(sql, fields)


def _where(model: type[Model], where: tuple[Condition, ...]) -> tuple[str, tuple[AnyField, ...]]:
    parts: list[str] = []
    of_parts: list[AnyField] = []
    for (_, count), field in zip(where, _fields(model, tuple(name for name, _ in where)), strict=True):
        parts.append(f"{_column(field)} IN ({', '.join(['%s'] * count)})" if count else f"{_column(field)} = %s")
        of_parts += [field] * max(count, 1)
    return " AND ".join(parts), tuple(of_parts)


@lru_cache(maxsize=KEPT_STATEMENTS)
def _of_insert(model: type[Model], names: tuple[str, ...]) -> tuple[AnyField, ...]:
    """Return the fields `names`, then all others that the database does not number itself."""
    given = _fields(model, names)
    others = (field for field in model._meta.concrete_fields if field not in given)
    return (*given, *(field for field in others if not field.primary_key))


@lru_cache(maxsize=KEPT_STATEMENTS)
def _fields(model: type[Model], names: tuple[str, ...]) -> tuple[AnyField, ...]:
    by_name: dict[str, AnyField] = {field.attname: field for field in model._meta.concrete_fields}
    return tuple(by_name[name] for name in names)


def _column(field: AnyField) -> str:
    return _quoted(str(field.column))


def _quoted(name: str) -> str:
    return _connection().ops.quote_name(name)
