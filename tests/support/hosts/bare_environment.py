"""A virtual environment with the dependencies of the host side, and without Django."""

from __future__ import annotations

import importlib.util
import sysconfig
import venv
from pathlib import Path

NEEDED = ("msgspec", "psutil", "pynvml", "websockets")


def bare_environment(folder: Path) -> Path:
    """Create one at `folder` from the packages of this environment; return its Python."""
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    place = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    for name in NEEDED:
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None
        origin = Path(spec.origin)
        source = origin.parent if origin.name == "__init__.py" else origin
        (place / source.name).symlink_to(source)
    return folder / "bin" / "python"
