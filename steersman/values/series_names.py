"""Names of series: separates those of a training from those that Steersman measures."""

from __future__ import annotations

from steersman import values
from steersman.values.remarks import Remark, Remarks

# Samples of GPUs and host have these names. Their axis is time, and they have no step.
MEASURED = ("gpu/", "host/")
OWN = "own/"


def as_series_name(given: object, remarks: Remarks) -> str:
    """Return the name of a training's own series; see `steersman.values.as_name`.

    A name that begins like those of measured series gets the prefix `own/`, so that the two are not mixed.
    """
    if isinstance(given, str) and str.__str__(given).startswith(MEASURED):
        own = OWN + str.__str__(given)
        text = (
            f"Names that begin with gpu/ or host/ are reserved for measured values: {values.shown(given)} is stored as "
        )
        told = f"{text}{values.shown(own)}, and other such names get the prefix {OWN} too."
        remarks.append(Remark.about("measured names", told))
        given = own
    return values.as_name(given, remarks)
