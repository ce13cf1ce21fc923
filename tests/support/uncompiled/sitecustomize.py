"""Makes the processes of tests cheaper: they do not load PyTorch's compiler until one of them compiles.

When a process ends, Python collects garbage among all loaded objects, which takes half a second with torch; this module
prevents that. The first step of an optimizer imports the compiler only to disable it, which takes half of the time to
start torch. Python runs this module at its start if this folder is in PYTHONPATH.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, TypeVar

COMPILER = "torch._dynamo"
Function = TypeVar("Function", bound=Callable[..., Any])


def leave_alone(function: Function | None = None, recursive: bool = True, *, wrapping: bool = True) -> Any:
    """Replace `torch._dynamo.disable` while nothing is compiled."""
    return function if function is not None else lambda decorated: decorated


class Postponing(MetaPathFinder, Loader):
    """Provides the functions of the compiler that an optimizer calls; any other access loads the compiler itself."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.startswith(f"{COMPILER}."):
            self.load_compiler()
        if name != COMPILER:
            return None
        found = PathFinder.find_spec(name, path)
        if found is None:
            return None
        postponed = ModuleSpec(name, self, is_package=True)
        postponed.submodule_search_locations = found.submodule_search_locations
        return postponed

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.disable = leave_alone  # type: ignore[attr-defined]
        module.graph_break = lambda: None  # type: ignore[attr-defined]
        module.__getattr__ = lambda name: getattr(self.load_compiler(), name)  # type: ignore[method-assign]

    def load_compiler(self) -> ModuleType:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
            sys.modules.pop(COMPILER, None)
        return importlib.import_module(COMPILER)


sys.meta_path.insert(0, Postponing())
atexit.register(gc.freeze)
