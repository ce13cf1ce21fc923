"""Values of a call of `log` that are on a GPU: they are copied without waiting, and read once the copy has arrived.

Uses torch only if it is already loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Protocol

from steersman import values
from steersman.values.remarks import Remark, Remarks


class Held(Protocol):
    """An entry that is written once its values have arrived and its step is known, in the order of the calls."""

    step: int | None

    def has_arrived(self, wait: bool) -> bool:
        """Return whether it may be written; with `wait`, wait for its values. May raise exceptions of the device."""
        ...

    def values(self, remarks: Remarks) -> dict[str, float]:
        """Return its values by name, as they are stored."""
        ...


class HeldPoint:
    """A point of a call of `log`.

    `event` signals that its values have arrived from the GPU; it is None if they were not on one.
    """

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
    """Return a value that has arrived from the GPU. The call that logged it is over, so this must not raise."""
    try:
        return values.as_number(number, values.argument("log", name), remarks)
    except TypeError as error:
        remarks.append(f"{error}; NaN is stored.")
        return float("nan")


def on_cpu(given: dict[Any, Any], remarks: Remarks, keeps: bool) -> tuple[Any, dict[Any, Any]]:
    """Return plain numbers by name, CUDA values that are being copied to pinned memory, and the event of their arrival.

    Values that are not numbers are left out with a remark. If no journal `keeps` them, CUDA values are not copied.
    `float()` of a CUDA tensor would make the loop wait for the device; a copy that is read later does not.
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
