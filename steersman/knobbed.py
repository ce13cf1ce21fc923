"""The knobs of a training: declaring them, restoring values set by commands, and reporting their values.

Standard library only. `steersman.commands.Control` changes knobs while training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steersman import values
from steersman.commands import Control
from steersman.files.changed_knobs import ChangedKnobs, read_changed_knobs
from steersman.kinds import Value
from steersman.knobs import Knob, groups_of, kind_of, learning_rate_knob, plain_choices, plain_default
from steersman.optimizers.parameter_groups import Optimizer
from steersman.recorder import Recorder
from steersman.records.kinds import KnobsRecord
from steersman.spec import Scale, ValueSpec

LONGEST_UNIT = 40
LONGEST_HELP = 500


class KnobbedRecorder(Recorder):
    """The part of a run that declares knobs; `steersman.run.Run` adds the step boundary at which they change."""

    __slots__ = ()
    _control: Control
    # The folder of the attempt, also for a process that logs nowhere; None without a supervisor.
    _place: Path | None
    # The values that commands set in earlier attempts; read when the first knob is declared.
    _changed_knobs: ChangedKnobs | None = None

    def knob(
        self,
        name: str,
        default: Value | Mapping[str, Value],
        /,
        *,
        minimum: float | int | None = None,
        maximum: float | int | None = None,
        choices: Sequence[Value] = (),
        scale: Scale = "linear",
        unit: str = "",
        help: str = "",
        series: str = "",
        kind: str = "",
        apply: Callable[..., object] | None = None,
        effective: Callable[..., float] | None = None,
    ) -> Knob:
        """Declare a value that may be changed while training, and read `.value` wherever it is needed.

        A mapping as `default` gives a value for each parameter group, read as `knob[group]`. `apply(value)` (with
        groups `apply(value, group)`) applies a change; if it raises an error, the change is refused and the old value
        restored. A value that a command set in an earlier attempt of the run is applied at once, with a note.
        `effective()` returns the effective value if a schedule multiplies the knob, `series` is the series that shows
        it. `kind` names a kind of `steersman.kinds` that does not follow from the default. Raises `steersman.SpecError`
        if the declaration contradicts itself.
        """
        initial, given = plain_default(default), plain_choices(name, choices)
        spec = ValueSpec(
            _clean_name(name),
            kind or kind_of(name, initial, given),
            values.plain(minimum),
            values.plain(maximum),
            given,
            scale,
            values.as_text(unit, LONGEST_UNIT),
            values.as_text(help, LONGEST_HELP),
            groups_of(initial),
            values.as_text(series, values.LONGEST_NAME),
        )
        knob = Knob(spec, initial, apply=apply, effective=effective)
        self.declare(knob)
        return knob

    def learning_rate_knob(
        self,
        optimizer: Optimizer,
        scheduler: object = None,
        /,
        *,
        name: str = "learning_rate",
        minimum: float = 1e-8,
        maximum: float | None = 1.0,
        series: str = "",
    ) -> Knob:
        """Declare the learning rate of a torch optimizer as a knob: the base of the schedule that multiplies it.

        The knob's value is the base: torch's `initial_lr`, `max_lr` for OneCycleLR, and for ReduceLROnPlateau the
        initial rate of the optimizer. A change takes effect at once in all values that the schedule derives from it. If
        each parameter group has a `name` of its own, each has a value; otherwise the value is that of the first group,
        and the others keep their ratio to it. Call it after both are built, and loaded from a checkpoint if there is
        one.
        `scheduler` may be a list of several. `series` is the series that shows the value in effect. Raises `TypeError`
        if `optimizer` or `scheduler` is not one of torch, `steersman.SpecError` if minimum and maximum are not valid.
        """
        knob = learning_rate_knob(
            optimizer, scheduler, name=_clean_name(name), minimum=values.plain(minimum), maximum=values.plain(maximum),
            series=values.as_text(series, values.LONGEST_NAME),
        )  # fmt: skip
        self.declare(knob)
        return knob

    def declare(self, *knobs: Knob) -> None:
        """Declare several knobs together. Raises `TypeError` if one is not a knob."""
        for knob in knobs:
            if not isinstance(knob, Knob):
                raise TypeError(
                    f"declare() takes knobs, not {values.shown(knob)}: create one with run.knob(name, default)"
                )
            self._control.knobs.add(knob)
        for knob in knobs:
            self._bring_back(knob)
        self.record_knobs()

    def _bring_back(self, knob: Knob) -> None:
        """Set a knob to the value that a command set in an earlier attempt, and log a note."""
        if self._changed_knobs is None:
            self._changed_knobs = (read_changed_knobs(self._place) if self._place is not None else None) or {}
        changed = self._changed_knobs.get(knob.spec.name)
        for sentence, level in knob.bring_back(changed) if changed else ():
            if self.rank == 0:
                self.note(sentence, level=level)

    @property
    def knobs(self) -> dict[str, dict[str, Value]]:
        """Return the current values of all knobs, by parameter group, for a checkpoint."""
        return {knob.spec.name: knob.values for knob in self._control.knobs}

    def restore_knobs(self, saved: Mapping[str, Mapping[str, Any]]) -> None:
        """Apply the knobs of a checkpoint; those that this training does not declare are left out.

        If a knob no longer accepts its value, it keeps the declared one, and a note is logged. Raises `TypeError` if
        `saved` was not returned by `knobs`.
        """
        for given in (saved, *(saved.values() if values.is_mapping(saved) else ())):
            if not values.is_mapping(given):
                shape = "{knob: {group: value}}"
                raise TypeError(
                    f"restore_knobs() takes what run.knobs returned, in the form {shape}, not {values.shown(given)}"
                )
        for knob in self._control.knobs:
            if knob.spec.name in saved:
                refused = knob.restore(saved[knob.spec.name])
                self._remark(
                    f"{error} The value stays {knob.spec.text(knob[group])}." for group, error in refused.items()
                )
        self.record_knobs()

    def record_knobs(self) -> None:
        """Record the specs and values of the knobs."""
        self._write(KnobsRecord.of(self._control.knobs.to_wire(), step=self._step))

    def record_moved_effects(self) -> None:
        """Record the knobs whose effective value differs from the recorded one."""
        moved = self._control.knobs.moved_to_wire()
        if moved:
            self._write(KnobsRecord.of(moved, step=self._step, partial=True))


def _clean_name(name: Any) -> Any:
    """Return a name that can be stored; a name that is not text is refused when the knob is declared."""
    return values.clean(name) if isinstance(name, str) else name
