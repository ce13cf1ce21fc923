"""The base class of recipes, which people write. Imports torch, but neither Django nor the run.

A recipe declares its parameters once, builds model and optimizer, yields batches, and computes the loss of a batch and
the metrics of an evaluation. `trainer.worker.loop` does the rest. `trainer/recipes/digits.py` is a recipe to copy.
"""

from __future__ import annotations

import importlib
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.data import Dataset

from steersman.optimizers import parameter_groups
from steersman.spec import SpecError, ValueSpec, typed_values
from trainer.recipe_names import RecipeError, split_spec
from trainer.worker.declaration import Declaration, parameter
from trainer.worker.loading import loaded
from trainer.worker.randomness import epoch_order, epoch_seed

__all__ = ["Batch", "Recipe", "RecipeError", "SpecError", "load_recipe", "parameter"]

Batch = tuple[Tensor, Tensor]
LEARNING_RATE_SERIES = "optimizer/learning_rate"


class Recipe(ABC):
    """Base of every recipe. The docstring of the subclass is its description.

    `build` must set `model`, `optimizer` and `train_size`, and may set `scheduler`, which is stepped after
    every step. Whatever is random in a batch must follow from `seed`, the epoch and the sample (see
    `trainer.worker.randomness`), so that a training resumes from any step as if it had not been stopped.
    """

    title: ClassVar[str] = ""
    # The value of `evaluate` that determines the best epoch, and whether a high or a low value is better.
    best_metric: ClassVar[str] = "validation_loss"
    best_is: ClassVar[Literal["highest", "lowest"]] = "lowest"
    # The published declarations: the parameters by name, and those that may be changed while training.
    declared: ClassVar[dict[str, ValueSpec]] = {}
    turnable: ClassVar[dict[str, ValueSpec]] = {}
    # The max norm to which gradients are clipped; None means no clipping. May be declared as a parameter.
    gradient_clip: float | None = None

    epochs: int = parameter(10, minimum=1, maximum=100_000, help="passes over the training set")
    batch_size: int = parameter(64, minimum=1, maximum=65_536, help="samples in one step")
    precision: str = parameter(
        "auto",
        choices=("auto", "float32", "float16", "bfloat16"),
        help="precision of the forward pass; auto: mixed precision on a GPU, float32 on the CPU",
    )
    threads: int = parameter(0, minimum=0, maximum=1024, help="CPU threads of torch; 0 leaves the choice to torch")
    save_every: int = parameter(1, minimum=1, maximum=100_000, help="epochs between two checkpoints")
    watch_layers: int = parameter(
        0, minimum=0, maximum=100_000, help="steps between two records of the norms of each layer; 0 records none"
    )

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    train_size: int
    # With several ranks, each has its shard of every batch.
    rank: int = 0
    ranks: int = 1
    # Set if the next batches must be created again; the loop then calls `train_batches` again.
    batches_changed: bool = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in (*vars(cls), *vars(cls).get("__annotations__", {})):
            _refuse_former_name(cls, name)
        _take_declarations(cls)

    def __init__(self, parameters: Mapping[str, object], *, device: torch.device, seed: int = 0) -> None:
        """Take the parameters of a run, typed or as text. Raises `SpecError` with the name of an invalid one."""
        self.device = device
        self.seed = seed
        self.parameters = typed_values(self.declared, parameters)
        for name, value in self.parameters.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        _refuse_former_name(type(self), name)
        super().__setattr__(name, value)

    @abstractmethod
    def build(self) -> None:
        """Load the data and set `model`, `optimizer`, `train_size` and, optionally, `scheduler`."""

    @abstractmethod
    def train_batches(self, epoch: int, first: int) -> Iterator[Batch]:
        """Yield the batches of an epoch (from 1), starting with number `first` (from 0), on `device`."""

    @abstractmethod
    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss of a batch, and further means by name, such as "accuracy": all 0-dim tensors."""

    @abstractmethod
    def evaluate(self) -> dict[str, float | Tensor]:
        """Return the metrics of an epoch by name. Called with the model in eval mode, without gradients."""

    def derived(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return values that follow from the means of `loss`, for a step or an epoch, such as a perplexity."""
        return {}

    def texts(self) -> dict[str, str]:
        """Return texts to show after each epoch by name, such as samples of a language model.

        Called as `evaluate` is. Draw random numbers from a separate generator: drawing from torch's
        would make trainings with and without these texts differ.
        """
        return {}

    @property
    def units_per_sample(self) -> Mapping[str, int]:
        """Return the units of a sample, such as {"tokens": 64}: each is reported as a separate speed."""
        return {}

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.train_size / self.batch_size)

    def shuffled(self, epoch: int, first: int) -> Iterator[Tensor]:
        """Yield the sample indices of each batch from number `first` on: int64 of shape (batch_size,), on `device`.

        With several ranks, each gets its shard of the batch, see `shard`.
        """
        order = epoch_order(self.seed, epoch, self.train_size).to(self.device)
        for start in range(first * self.batch_size, self.train_size, self.batch_size):
            yield self.shard(order[start : start + self.batch_size])

    def shard(self, indices: Tensor) -> Tensor:
        """Return this rank's part of a batch's indices, or the first index if its part is empty.

        For recipes that order their samples themselves: every rank must make a step.
        """
        own = indices[self.rank :: self.ranks]
        return own if len(own) else indices[:1]

    def data_loader(
        self,
        dataset: Dataset[Any],
        epoch: int,
        first: int,
        *,
        workers: int = 0,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> Iterator[Any]:
        """Yield the batches of an epoch from number `first` on, loaded by `workers` processes (0: by this one).

        For `train_batches` of recipes whose samples take time to load: `dataset[index]` must depend only on (seed,
        epoch, index), and be on the CPU. If the dataset has `__getitems__`, that makes a whole batch, and `collate`
        gets its result.
        """
        batches = [indices.tolist() for indices in self.shuffled(epoch, first)]
        return loaded(
            dataset,
            batches,
            seed=epoch_seed(self.seed, epoch),
            workers=workers,
            collate=collate,
            pin_memory=self.device.type == "cuda",
        )

    def set_learning_rate(self, value: float, group: str = "") -> None:
        """Set the learning rate that the schedule multiplies, for one parameter group or for all."""
        named = (base for base in self.optimizer.param_groups if base.get("name") == group)
        old = parameter_groups.base_learning_rate(next(named)) if group else getattr(self, "learning_rate", value)
        parameter_groups.change_learning_rate(self.optimizer, self.scheduler, float(old), value, group)

    def set_weight_decay(self, value: float, group: str = "") -> None:
        """Set the weight decay of one parameter group, or of all."""
        old = getattr(self, "weight_decay", None)
        for each in self.optimizer.param_groups:
            # Without a name, groups that were built without weight decay stay so.
            if each.get("name") == group if group else each["weight_decay"] == old:
                each["weight_decay"] = value

    def set_dropout(self, value: float) -> None:
        """Set the dropout probability of every dropout module of the model."""
        for module in self.model.modules():
            if isinstance(module, _DropoutNd):
                module.p = value

    @classmethod
    def schema(cls) -> list[dict[str, Any]]:
        """Return the declared parameters as published: JSON-ready, in the order of declaration."""
        return [spec.to_wire() for spec in cls.declared.values()]

    @classmethod
    def knobs(cls) -> list[dict[str, Any]]:
        """Return the parameters that may be changed while training, as published, with their parameter groups."""
        return [spec.to_wire() for spec in cls.turnable.values()]

    @classmethod
    def description(cls) -> str:
        return inspect.cleandoc(cls.__doc__ or "")


def _refuse_former_name(cls: type[Recipe], name: str) -> None:
    """Raise `RecipeError` if a recipe still uses the former name of `optimizer`."""
    if name == "optimiser":
        raise RecipeError(f"recipe: the attribute {name} of {cls.__name__} is called optimizer now; rename it.")


def _take_declarations(cls: Any) -> None:
    """Move the declarations from the body of `cls` into its specs, and replace them by the defaults.

    A plain value under an inherited parameter's name (`epochs = 50`) is its new default.
    """
    declared, turnable = dict(cls.declared), dict(cls.turnable)
    for name, value in list(vars(cls).items()):
        if name in declared and not isinstance(value, Declaration):
            try:
                declared[name] = replace(declared[name], default=declared[name].check(value))
            except SpecError as error:
                raise TypeError(str(error)) from error
            if name in turnable:
                turnable[name] = declared[name]
        elif isinstance(value, Declaration):
            if name not in declared and name in RESERVED:
                raise TypeError(
                    f"{cls.__name__}.{name}: every recipe already has an attribute of this name; choose another"
                )
            series = LEARNING_RATE_SERIES if value.knob and name == "learning_rate" else ""
            declared[name] = value.named(name, vars(cls).get("__annotations__", {}).get(name, ""), series)
            turnable.pop(name, None)
            if value.knob:
                turnable[name] = declared[name]
        else:
            continue
        setattr(cls, name, declared[name].default)
    cls.declared, cls.turnable = declared, turnable


# __init_subclass__ runs only for subclasses, but the base class has declarations too.
RESERVED: frozenset[str] = frozenset()
_take_declarations(Recipe)
RESERVED = frozenset({*dir(Recipe), *Recipe.__annotations__, "device", "seed", "parameters"})
RESERVED -= {*Recipe.declared, "gradient_clip"}


def load_recipe(spec: str) -> type[Recipe]:
    """Return the recipe class of a built-in name or a dotted path.

    Raises `RecipeError` if there is none. Errors inside the named module are raised unchanged.
    """
    module_name, class_name = split_spec(spec)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # If the user's own module imports a missing module, raise that error unchanged.
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise
        raise RecipeError(
            f"recipe: there is no module {module_name} for {spec}; run the command in the folder that contains the "
            "module, or put that folder into PYTHONPATH."
        ) from None
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Recipe)):
        raise RecipeError(f"recipe: {module_name} has no class {class_name} derived from trainer.recipes.Recipe.")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise RecipeError(f"recipe: {spec} is not complete; define {missing}.")
    return found
