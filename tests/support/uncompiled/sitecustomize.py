"""Makes the processes that tests start cheaper; keeps PyTorch's compiler out of them, until one of them compiles.

At its end Python looks for garbage in all that was loaded, which takes half a second where torch was: not here.
The first step of an optimizer imports the compiler, only to tell it to stay away: half of what a start of torch costs.
Python runs this module at its start where this folder lies in PYTHONPATH.
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
    """Stand for `torch._dynamo.disable` where nothing is compiled."""
    return function if function is not None else lambda decorated: decorated


class Postponing(MetaPathFinder, Loader):
    """Puts what an optimizer asks of the compiler in its place; whoever asks for more gets the compiler itself."""

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
