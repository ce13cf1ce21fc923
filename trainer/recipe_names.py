"""Names of recipes: built-in names and dotted paths, and their source files.

Never loads a recipe, so it needs no torch.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

BUILT_IN = {
    "mnist": "trainer.recipes.mnist:Mnist",
    "digits": "trainer.recipes.digits:Digits",
    "transformer": "trainer.recipes.transformer:Transformer",
}


class RecipeError(ValueError):
    """A spec without a recipe. The text gives the reason and the remedy."""


def split_spec(spec: str) -> tuple[str, str]:
    """Return module and class of a built-in name or a dotted path, `package.module:Class` or `package.module.Class`.

    Raises `RecipeError` if `spec` is neither.
    """
    path = BUILT_IN.get(spec, spec)
    module, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise RecipeError(
            f"recipe: there is no recipe {spec!r}; name a built-in one ({', '.join(BUILT_IN)}) or a dotted path such "
            "as mypackage.mine:MyRecipe."
        )
    return module, name


def source_sha256(spec: str) -> str:
    """Return the SHA-256 of the source file of the recipe's module, "" if it is not found.

    Raises `RecipeError` if `spec` cannot be a recipe.
    """
    file = _source_file(split_spec(spec)[0])
    return hashlib.sha256(file.read_bytes()).hexdigest() if file is not None else ""


def _source_file(module: str) -> Path | None:
    """Find a module's file part by part: `importlib.util.find_spec` would run its parent packages."""
    # `python …/manage.py` searches the folder of manage.py; a person's recipe is in their current folder.
    folders = [*sys.path, os.getcwd()]
    found = None
    for depth, _ in enumerate(parts := module.split("."), start=1):
        found = PathFinder.find_spec(".".join(parts[:depth]), folders)
        if found is None:
            return None
        folders = list(found.submodule_search_locations or [])
    file = Path(found.origin) if found is not None and found.origin else None
    return file if file is not None and file.is_file() else None
