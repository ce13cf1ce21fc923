"""Values of a call of `log` that are on a GPU: they are copied without waiting, and read once the copy has arrived.

Uses torch only where it is loaded already.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Protocol

from steersman import values
from steersman.values.remarks import Remark, Remarks


class Held(Protocol):
    """An entry that is written when its values have arrived and its step is known, in the order of the calls."""

    step: int | None

    def has_arrived(self, wait: bool) -> bool:
        """Return whether it may be written; with `wait`, wait for its values. May raise what the device raises."""
        ...

    def values(self, remarks: Remarks) -> dict[str, float]:
        """Return its values by name, as they are stored."""
        ...


class HeldPoint:
    """A point of a call of `log`: `event` signals that its values have come from the GPU, None if they were not on
    one."""

    def __init__(self, event: Any, step: int, names: Sequence[str], numbers: Sequence[Any]) -> None:
        self.step: int | None = step
        self._event = event
        self._names = names
        self._numbers = numbers

    def has_arrived(self, wait: bool) -> bool:
        if self._event is None:
            return True
        if wait:
            self._event.synchronize()
        return wait or bool(self._event.query())

    def values(self, remarks: Remarks) -> dict[str, float]:
        return {name: of_copy(number, name, remarks) for name, number in zip(self._names, self._numbers, strict=True)}


def of_copy(number: Any, name: str, remarks: Remarks) -> float:
    """Return a value that has come from the GPU: the call that gave it is over, nothing may raise out of it."""
    try:
        return values.as_number(number, values.argument("log", name), remarks)
    except TypeError as error:
        remarks.append(f"{error}; NaN is stored.")
        return float("nan")


def on_cpu(given: dict[Any, Any], remarks: Remarks, keeps: bool) -> tuple[Any, dict[Any, Any]]:
    """Return plain numbers by name, CUDA values on their way to pinned memory, and the event that is complete when they
    have arrived.

    Values that are not numbers are left out with a remark. If no journal `keeps` them, CUDA values are not copied.

    `float()` of a CUDA tensor would make the loop wait for the device; a copy that is asked for later does not.
    """
    numbers: dict[Any, Any] = {}
    device: Any = None
    for name, value in given.items():
        argument = values.argument("log", name)
        try:
            if not values.is_on_device(value):
                numbers[name] = values.as_number(value, argument, remarks)
                continue
            values.check_one_element(value, argument)
        except TypeError as error:
            remarks.append(Remark.about(argument, f"{error}: it was left out."))
            continue
        if not keeps:
            numbers[name] = 0.0
            continue
        device = value.device
        numbers[name] = value.detach().to("cpu", non_blocking=True)
    if device is None:
        return None, numbers
    cuda = sys.modules["torch"].cuda
    event = cuda.Event()
    event.record(cuda.current_stream(device))
    return event, numbers
