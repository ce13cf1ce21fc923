"""Values of a call of `log` that are on a GPU: they are copied without waiting, and read once the copy has arrived.

Uses torch only where it is loaded already.
"""

from __future__ import annotations

import sys
from typing import Any

from steersman import values
from steersman.values.remarks import Remark, Remarks


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
