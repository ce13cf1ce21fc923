"""Strategies for the values of calls: pairs of what a call is given and what is stored, or values that are refused."""

from __future__ import annotations

import math
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from typing import Any

import numpy as np
from hypothesis import strategies as st

SMALLEST, LARGEST = -(2**63), 2**63 - 1


class Stubborn:
    """An object of which every access fails."""

    def __float__(self) -> float:
        raise RuntimeError("no number")

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        return "Stubborn()"


def stored_name(given: str) -> str:
    """Return the stored form of a name, as the table describes it."""
    cleaned = "".join("\ufffd" if letter == "\0" or 0xD800 <= ord(letter) < 0xE000 else letter for letter in given)
    if given and cleaned == given and len(given) <= 200:
        return given
    digits = sha256(given.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return (cleaned or "unnamed")[:191] + "~" + digits


def _torch(value: float, kind: str) -> tuple[Any, float]:
    import torch

    made = torch.tensor(value, dtype=getattr(torch, kind), requires_grad=kind != "int64")
    return made, float(made.detach().to(torch.float64)) if kind != "int64" else float(int(value))


floats = st.floats(allow_nan=False, allow_infinity=False)
small = st.floats(-1000, 1000)
numbers = st.one_of(
    floats.map(lambda value: (value, value)),
    st.integers(-(10**300), 10**300).map(lambda value: (value, float(value))),
    st.booleans().map(lambda value: (value, float(value))),
    small.map(lambda value: (Decimal(value), value)),
    st.integers(-1000, 1000).map(lambda value: (Fraction(value, 7), value / 7)),
    small.map(lambda value: (np.float16(value), float(np.float16(value)))),
    small.map(lambda value: (np.float32(value), float(np.float32(value)))),
    small.map(lambda value: (np.array([[value]]), value)),
    st.booleans().map(lambda value: (np.bool_(value), float(value))),
    st.tuples(small, st.sampled_from(["float32", "float64", "float16", "bfloat16"])).map(lambda two: _torch(*two)),
    st.integers(-1000, 1000).map(lambda value: _torch(value, "int64")),
)
nonfinite = st.sampled_from(
    [(math.nan, math.nan), (math.inf, math.inf), (-math.inf, -math.inf), (np.float32("nan"), math.nan)]
)
beyond = st.sampled_from([(10**400, math.inf), (-(10**4000), -math.inf), (Fraction(10**400), math.inf)])
wholes = st.integers(SMALLEST, LARGEST).flatmap(
    lambda value: st.sampled_from([(value, value), (np.int64(value), value), (np.array(value), value)])
) | st.integers(-(2**50), 2**50).map(lambda value: (float(value), value))
no_wholes = st.sampled_from([2.5, math.nan, math.inf, "3", "three", b"3", None, [1], np.float32(0.5), Stubborn(), 1j])
# Without a step, a call uses the current one.
no_steps = no_wholes.filter(lambda step: step is not None)
beyond_64 = st.integers(LARGEST + 1, 2**200) | st.integers(-(2**20000), SMALLEST - 1)
letters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
# The parameters of log_epoch itself.
OWN = {"step", "duration_s", "best"}
names = st.one_of(
    st.text(letters, min_size=1, max_size=200),
    st.sampled_from(["type", "float", "int", "self", "step", "epoch", "fi", "ﬁ", "None", "__debug__", "loss", "_x"]),
).filter(lambda name: name not in OWN)
long_names = st.text(letters, min_size=201, max_size=700) | st.integers(201, 5000).map(lambda size: "长" * size)
bad_names = st.text(st.characters(), max_size=50).map(lambda text: text + "\0") | st.sampled_from(
    ["", "\ud83d", "a\udc00b", "\0\0"]
)
arrays = st.sampled_from(
    ["text", "1.5", None, [1, 2], np.zeros(3), 1 + 2j, np.complex64(1j), date(2026, 1, 1), Stubborn(), {}]
)


def _vector() -> Any:
    import torch

    return torch.zeros(2)


bad_numbers = arrays | st.builds(_vector)
anything = st.one_of(
    st.text(st.characters(), max_size=3000), st.binary(max_size=300), st.integers(), floats, st.none(),
    st.builds(Stubborn), st.just(np.arange(3)), st.just("长" * 20_000), st.just(ValueError("\ud800")),
)  # fmt: skip
nested = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(), max_size=20),
              st.binary(max_size=5), st.builds(Stubborn), st.builds(lambda: 10**5000), st.just(np.float32(1.5))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=9), inner, max_size=4)
    | st.dictionaries(st.integers() | st.tuples(st.integers()), inner, max_size=3),
    max_leaves=20,
)  # fmt: skip
plans = st.integers(1, LARGEST).map(lambda value: (value, value)) | st.sampled_from(
    [(100.0, 100), (np.float32(100.0), 100), (np.int64(7), 7), (156.25, 157), (True, 1)]
)
open_plans = st.sampled_from([None, math.inf, 0, -1, np.float64("inf")])
odd_plans = st.sampled_from([math.nan, -7, 0.5, -math.inf, 2**70, 10**400])
seconds = st.floats(0, 1e12) | st.sampled_from([timedelta(seconds=90), 3, np.float32(2.5)])
no_seconds = st.sampled_from([-1, math.nan, math.inf, timedelta(seconds=-5)])
