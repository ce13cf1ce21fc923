"""Redacts records before they leave the training host: every text of a training passes the redactor here, names
included.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from steersman.agent.machine.redactor import Redactor, as_stored
from steersman.agent.machine.secret_values import secret_texts
from steersman.records.alert_kinds import AlertRecord, WatchRecord
from steersman.records.kinds import (
    CheckpointRecord,
    EndRecord,
    EnvironmentRecord,
    EpochRecord,
    NoteRecord,
    OutcomeRecord,
    PointRecord,
    TextRecord,
)
from steersman.records.knob_kinds import EffectRecord, KnobsRecord
from steersman.records.own_kinds import ParametersRecord, PatchRecord
from steersman.records.record import Record

# A training usually logs the same few sets of names.
MOST_KNOWN_NAMES = 100

Names = tuple[str, ...]


class SeriesNames:
    """Caches the redacted names of series."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._known: dict[Names, Names] = {}

    def stored(self, names: Names) -> Names:
        found = self._known.get(names)
        if found is None:
            if len(self._known) >= MOST_KNOWN_NAMES:
                self._known.clear()
            found = self._known[names] = tuple(self._redactor.names(names))
        return found

    def renamed(self, point: PointRecord) -> PointRecord:
        """Return a point with redacted names."""
        names = tuple(point.values)
        stored = self.stored(names)
        if stored == names:
            return point
        return replace(point, values=dict(zip(stored, point.values.values(), strict=True)))


class RecordRedactor:
    """Redacts the records of one attempt."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self.names = SeriesNames(redactor)

    def redacted(self, record: Record) -> Record:
        """Return a record without paths, hosts and secrets. Raises any exception of its values."""
        redactor = self._redactor
        match record:
            case PointRecord():
                return self.names.renamed(record)
            case EpochRecord():
                return replace(record, values=redactor.named(record.values))
            case EnvironmentRecord():
                return replace(record, environment=redactor.environment(record.environment))
            case OutcomeRecord():
                return replace(
                    record,
                    reason=redactor.text(record.reason),
                    old=as_stored(record.old),
                    new=as_stored(record.new),
                    effective=as_stored(record.effective),
                )
            case KnobsRecord():
                return replace(record, knobs=[redactor.knob(knob) for knob in record.knobs])
            case EffectRecord():
                return replace(record, effective=as_stored(record.effective))
            case ParametersRecord():
                shown = {as_stored(name): parameter(redactor, name, v) for name, v in record.parameters.items()}
                return replace(record, parameters=shown)
            case PatchRecord():
                return replace(record, patch=redactor.text(record.patch))
            case CheckpointRecord():
                metrics = redactor.named(record.metrics)
                return replace(record, name=redactor.name(record.name), metrics=metrics)
            case TextRecord():
                return replace(record, name=redactor.name(record.name), text=redactor.text(record.text))
            case AlertRecord():
                return replace(record, name=redactor.text(record.name), text=redactor.text(record.text))
            case WatchRecord():
                return replace(record, name=redactor.name(record.name))
            case NoteRecord():
                return replace(record, text=redactor.text(record.text))
            case EndRecord():
                error, traceback = redactor.text(record.error), redactor.text(record.traceback)
                return replace(record, error=error, traceback=traceback)
        return record


def parameter(redactor: Redactor, name: str, value: Any) -> Any:
    """Return a value without paths, hosts and secrets.

    Names of parameters stay, because people compare runs by them.
    """
    if isinstance(value, dict):
        return {as_stored(key): parameter(redactor, key, item) for key, item in value.items()}
    if isinstance(value, list):
        return [parameter(redactor, name, item) for item in value]
    shown = redactor.environment(value)
    if isinstance(shown, str):
        for secret, mask in secret_texts({name: shown}).items():
            shown = shown.replace(secret, mask)
    return shown
