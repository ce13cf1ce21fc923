"""Built-in recipes, their datasets and schedules, and what your own recipe imports: `Recipe` and `parameter`.

Imports torch and `trainer.worker`. No code imports a recipe by name: `trainer.recipe_names` finds it.
"""

from trainer.worker.randomness import sample_uniform
from trainer.worker.recipe import Batch, Recipe, parameter

__all__ = ["Batch", "Recipe", "parameter", "sample_uniform"]
