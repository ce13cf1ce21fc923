"""Built-in recipes, their data sets and schedules, and what a recipe of your own imports: `Recipe` and `parameter`.

Imports torch and `trainer.worker`. Nothing imports a recipe by name: `trainer.recipe_names` leads to it.
"""

from trainer.worker.randomness import sample_uniform
from trainer.worker.recipe import Batch, Recipe, parameter

__all__ = ["Batch", "Recipe", "parameter", "sample_uniform"]
