"""A process that fits a random forest: `python -m runs.portal.compare.forest` reads a `Problem` and writes the answer.

Needs no settings and no database.
"""

from __future__ import annotations

import sys

import msgspec
import numpy as np
from numpy.typing import NDArray

# With fewer runs, a forest learns nothing that generalises.
FEWEST_RUNS = 10
TREES = 200
SHUFFLES = 10


class Problem(msgspec.Struct):
    """Values of parameters by column, and of the metric that they are to explain. None is a missing value."""

    names: list[str]
    columns: list[list[float | str | None]]
    target: list[float]


class Importance(msgspec.Struct):
    """The importance of a parameter for a metric: `share` of all importance (0 to 1), and the rank correlation (-1 to
    1).

    `correlation` is None for parameters that are not numbers.
    """

    name: str
    share: float
    correlation: float | None


def solve(problem: Problem) -> list[Importance]:
    """Return the importance of each parameter, the most important first.

    The importance is the mean decrease of R² when the values of the parameter are shuffled (Breiman, Random Forests,
    2001), divided by the sum over all parameters. A text parameter counts as one parameter, whatever its values.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    inputs = np.column_stack([_as_numbers(column) for column in problem.columns])
    target = np.asarray(problem.target)
    forest = RandomForestRegressor(n_estimators=TREES, random_state=0).fit(inputs, target)
    found = permutation_importance(forest, inputs, target, n_repeats=SHUFFLES, random_state=0)
    decreases = np.maximum(found.importances_mean, 0.0)
    total = float(decreases.sum())
    rows = [
        Importance(name, float(decrease) / total if total else 0.0, _rank_correlation(column, target))
        for name, column, decrease in zip(problem.names, problem.columns, decreases, strict=True)
    ]
    return sorted(rows, key=lambda row: -row.share)


def _as_numbers(column: list[float | str | None]) -> NDArray[np.float64]:
    """Return a column that a tree can split: numbers unchanged, texts by their order, missing values lowest."""
    if all(value is None or isinstance(value, float) for value in column):
        numbers = [value for value in column if isinstance(value, float)]
        missing = min(numbers, default=0.0) - 1.0
        return np.asarray([value if isinstance(value, float) else missing for value in column])
    texts = {text: place for place, text in enumerate(sorted({str(value) for value in column if value is not None}))}
    return np.asarray([-1.0 if value is None else float(texts[str(value)]) for value in column])


def _rank_correlation(column: list[float | str | None], target: NDArray[np.float64]) -> float | None:
    """Return Spearman's rank correlation, None if the column has texts, missing values or only one value."""
    from scipy.stats import rankdata

    if not all(isinstance(value, float) for value in column):
        return None
    ranks = rankdata(np.asarray(column, np.float64)), rankdata(target)
    if any(np.ptp(one) == 0 for one in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Problem)
    sys.stdout.buffer.write(msgspec.json.encode(solve(asked)))
