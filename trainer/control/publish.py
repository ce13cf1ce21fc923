"""Publishes recipes as rows: the declarations of a class, which the web and the command line can read without torch.

Importing this module does not load torch; describing a recipe does.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from typing import Any, TypedDict

from runs.models import Recipe
from steersman.agent.machine.pynvml_notice import silence_pynvml_notice
from trainer.recipe_names import BUILT_IN, RecipeError, source_sha256

NO_TORCH = (
    "recipe: PyTorch is not installed here, so recipes cannot be loaded: install it (pip install -r "
    "requirements.txt), or run this command on a training host."
)


class Description(TypedDict):
    """The columns of a published recipe."""

    title: str
    description: str
    parameters: list[dict[str, Any]]
    knobs: list[dict[str, Any]]
    source_sha256: str


def known_specs(configured: list[str]) -> list[str]:
    """Return the specs of the built-in recipes and of those in the settings, without duplicates."""
    return list(dict.fromkeys([*BUILT_IN, *configured]))


def torch_is_installed() -> bool:
    """Return whether recipes can be loaded here, without loading PyTorch."""
    return importlib.util.find_spec("torch") is not None


def describe(spec: str) -> Description:
    """Return the declarations of the class. Raises `RecipeError` if there is no such class, or it cannot be loaded."""
    if not torch_is_installed():
        raise RecipeError(NO_TORCH)
    silence_pynvml_notice()
    # As in `trainer.worker.main`: the collector would search torch's modules without finding garbage, which takes 0.7 s
    # of the 2 s.
    gc.disable()
    try:
        return _describe(spec)
    finally:
        gc.freeze()
        gc.enable()


def _describe(spec: str) -> Description:
    from trainer.worker.recipe import load_recipe

    # In the same order as `source_sha256`.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        recipe = load_recipe(spec)
    except RecipeError:
        raise
    except Exception as error:
        # If a user's module fails while it loads, show its own line instead of our traceback.
        raise RecipeError(f"recipe: {spec} does not load: {type(error).__name__}: {error}{_place(error)}.") from error
    return {
        "title": recipe.title or recipe.__name__,
        "description": recipe.description(),
        "parameters": recipe.schema(),
        "knobs": recipe.knobs(),
        "source_sha256": source_sha256(spec),
    }


def publish(spec: str) -> Recipe:
    """Store the current declarations of the class and return the row. Raises `RecipeError` as `describe` does."""
    row, _ = Recipe.objects.update_or_create(spec=spec, defaults=dict(describe(spec)))
    return row


def is_published(spec: str) -> bool:
    """Return whether the row of `spec` matches its current source.

    Raises `RecipeError` if `spec` cannot be a recipe.
    """
    source = source_sha256(spec)
    published = Recipe.objects.filter(spec=spec).values_list("source_sha256", flat=True).first()
    # If the source is not on this host, because the row was made elsewhere, the row is valid.
    return published is not None and source in ("", published)


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}, line {error.lineno})"
    return f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})" if trace is not None else ""
