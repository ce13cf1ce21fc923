"""Records the norms of a watched model: hooks of its optimizers' steps, and observations for the journal.

The hooks are torch's global ones for all optimizers, so the script does not have to pass any of them. An error is
reported once and ends the measurement, but not the training.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from steersman import values
from steersman.layers.measuring import Updates, local_part, norms_of, shards_by_module, shards_of, to_cpu
from steersman.layers.naming import MOST_LAYERS, layer_names
from steersman.values.remarks import Remark, Remarks

WEIGHT, GRADIENT, UPDATE = "weight", "gradient", "update"
MEASURES = (GRADIENT, UPDATE, WEIGHT)
EVERY = 50
LONGEST_ERROR = 200
NOTHING_OBSERVED = (
    "watch_layers() observed no step of a torch optimizer that has parameters of {name}, so the layers of this model "
    "are not recorded. Optimizers that step copies of the parameters, and steps that are compiled or captured in a "
    "CUDA graph, cannot be observed."
)
# The measurement of a parameter: its layer, the measure, and the factor of its norm.
Part = tuple[str, str, float]


class Observation:
    """Norms of the layers at one step, some of which may still be in transit from a GPU.

    `step` is None until it is known: optimizers step before the loop logs its step.
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self._parts: list[tuple[Any, Any, list[Part]]] = []

    def add(self, norms: Any, event: Any, parts: list[Part]) -> None:
        """Add norms of one device, as a tensor with one element for each of `parts`."""
        self._parts.append((norms, event, parts))

    def has_arrived(self, wait: bool) -> bool:
        for _, event, _ in self._parts:
            if event is None:
                continue
            if wait:
                event.synchronize()
            elif not event.query():
                return False
        return self.step is not None

    def values(self, remarks: Remarks) -> dict[str, float]:
        """Return the norms by series; those of all parameters of a layer are combined."""
        found: dict[str, list[float]] = {}
        for norms, _, parts in self._parts:
            for norm, (layer, measure, factor) in zip(norms.tolist(), parts, strict=True):
                found.setdefault(f"layers/{measure}/{layer}", []).append(norm * factor)
        return {name: math.hypot(*norms) for name, norms in found.items()}


class WatchedModel:
    """One model: its layers, and the optimizers that step its parameters."""

    def __init__(self, torch: Any, model: Any, every: int, name: str, most: int) -> None:
        self._torch = torch
        self._model = weakref.ref(model)
        self._every = every
        self._most = most
        self.name = name
        self.shown = name or type(model).__name__
        self._has_stepped = False
        self._most_steps = 0
        self._steps: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        # The measurements between the hooks before and after a step, by optimizer.
        self._begun: dict[int, list[_OfDevice]] = {}

    @property
    def is_unseen(self) -> bool:
        """Whether no optimizer stepped this model when an observation was due, or no optimizer has stepped at all."""
        return not self._has_stepped and (not self._most_steps or self._most_steps >= self._every)

    @property
    def is_gone(self) -> bool:
        return self._model() is None

    def is_of(self, model: object) -> bool:
        return self._model() is model

    def layers(self) -> dict[str, None]:
        """Return the names of the layers, in the order of the model."""
        return dict.fromkeys(layer for layer, _ in self._layers().values())

    def before(self, optimizer: Any) -> None:
        """Measure the state before an optimizer steps, if this step is to be observed."""
        step = self._steps[optimizer] = self._steps.get(optimizer, 0) + 1
        self._most_steps = max(self._most_steps, step)
        if step % self._every:
            return
        layers = self._layers()
        parameters = [each for group in optimizer.param_groups for each in group["params"] if id(each) in layers]
        if not parameters:
            return
        self._has_stepped = True
        by_device: dict[Any, list[Any]] = {}
        for parameter in parameters:
            by_device.setdefault(parameter.device, []).append(parameter)
        scale = getattr(optimizer, "grad_scale", None)
        self._begun[id(optimizer)] = [
            _OfDevice(self._torch, members, [layers[id(each)] for each in members], scale)
            for members in by_device.values()
        ]

    def after(self, optimizer: Any, observation: Callable[[], Observation]) -> None:
        """Measure the changes of a step, and add everything to an observation."""
        for each in self._begun.pop(id(optimizer), ()):
            each.finish(observation())

    def _layers(self) -> dict[int, tuple[str, int]]:
        """Return layer and number of shards of each trained parameter, by its identity.

        Call it for each observation, because a model may have been wrapped, frozen or unfrozen since the last one.
        """
        model = self._model()
        if model is None:
            return {}
        named = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
        prefix = f"{self.name}." if self.name else ""
        names = layer_names([name for name, _ in named], "model", self._most)
        by_module = shards_by_module(model)
        return {
            id(each): (prefix + layer, by_module.get(id(each), 0) or shards_of(each))
            for layer, (_, each) in zip(names, named, strict=True)
        }


class _OfDevice:
    """One step of an optimizer on one device, measured before and after it."""

    def __init__(self, torch: Any, parameters: list[Any], layers: list[tuple[str, int]], scale: Any) -> None:
        self._torch = torch
        self._layers = layers
        self._parameters = parameters
        held = self._held()
        gradients = [
            (place, _real(torch, local_part(each.grad)))
            for place, each in enumerate(parameters)
            if each.grad is not None and not each.grad.is_sparse
        ]
        found = norms_of(torch, [each for _, each in gradients])
        if scale is not None:
            # A fused optimizer divides by the scale in its own kernel.
            found = [norm / scale.to(norm.device, non_blocking=True) for norm in found]
        self._norms = norms_of(torch, held) + found
        self._parts = [self._part(WEIGHT, place) for place in range(len(held))]
        self._parts += [self._part(GRADIENT, place) for place, _ in gradients]
        self._updates = Updates(torch, held)

    def _held(self) -> list[Any]:
        """Return this rank's part of the parameters; again after a step, because some optimizers replace tensors."""
        return [_real(self._torch, local_part(each)) for each in self._parameters]

    def finish(self, observation: Observation) -> None:
        norms = self._norms + self._updates.norms(self._held())
        parts = self._parts + [self._part(UPDATE, place, by) for place, by in enumerate(self._updates.factors)]
        observation.add(*to_cpu(self._torch, norms), parts)

    def _part(self, measure: str, place: int, factor: float = 1.0) -> Part:
        """Return a part. Each rank records its shard as if all were alike: the root mean square over ranks is the norm
        of all.
        """
        layer, shards = self._layers[place]
        return layer, measure, factor * math.sqrt(shards)


class LayerWatch:
    """All models that a training watches.

    `begin(observation)` is called for each new one, `remark` with each problem. Without `keep`, observations are
    dropped and only arguments are checked.
    """

    def __init__(self, begin: Callable[[Observation], None], remark: Callable[[Remarks], None], keeps: bool) -> None:
        self._begin = begin
        self._remark = remark
        self._keeps = keeps
        self._models: list[WatchedModel] = []
        self._handles: list[Any] = []
        self._present: Observation | None = None

    def add(self, model: Any, every: object, name: object, remarks: Remarks) -> None:
        """Watch a model from now on, replacing an earlier watch of the same model. Never raises."""
        try:
            prefix = "" if name is None else values.as_text(name, values.LONGEST_NAME // 2)
            self._add(model, _as_every(every, remarks), prefix, remarks)
        except Exception as error:  # any exception, also of the model's own methods
            remarks.append(_left_out(f"the layers of {type(model).__name__} cannot be read ({_told(error)})"))

    def settle(self, step: int) -> None:
        """Assign the observations since the last step boundary to this step."""
        if self._present is not None:
            self._present.step = step
            self._present = None

    def end(self) -> None:
        """Remove the hooks; log the models that never made a step."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        unseen = [each.shown for each in self._models if self._keeps and each.is_unseen]
        self._models = []
        self._remark([NOTHING_OBSERVED.format(name=name) for name in unseen])

    def _add(self, model: Any, every: int, name: str, remarks: Remarks) -> None:
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(model, torch.nn.Module):
            remarks.append(_left_out(f"watch_layers() takes a torch.nn.Module, not {values.shown(model)}"))
            return
        others = [each for each in self._models if not each.is_gone and not each.is_of(model)]
        taken = {layer for each in others for layer in each.layers()}
        room = MOST_LAYERS - len(taken)
        if room < 1:
            remarks.append(_left_out(f"all models together may have at most {MOST_LAYERS} layers"))
            return
        watched = next(
            each for each in _named(torch, model, every, name, room) if not taken.intersection(each.layers())
        )
        if not watched.layers():
            remarks.append(_left_out(f"{values.shown(type(model).__name__)} has no trainable parameters"))
            return
        if self._keeps and not self._handles:
            self._hang(torch)
        self._models = [*others, watched]

    def _hang(self, torch: Any) -> None:
        # torch deletes the name from `torch.optim`.
        hooks = sys.modules["torch.optim.optimizer"]
        self._torch = torch
        self._handles = [
            hooks.register_optimizer_step_pre_hook(self._before),
            hooks.register_optimizer_step_post_hook(self._after),
        ]

    def _before(self, optimizer: Any, arguments: Any, named: Any) -> None:
        try:
            if not self._models or is_recorded(self._torch):
                return
            with self._torch.no_grad():
                for watched in self._models:
                    watched.before(optimizer)
        # any exception, for example from an unexpected kind of tensor, or a device without memory
        except Exception as error:
            self._give_up(error)

    def _after(self, optimizer: Any, arguments: Any, named: Any) -> None:
        try:
            if not self._models or is_recorded(self._torch):
                return
            with self._torch.no_grad():
                for watched in self._models:
                    watched.after(optimizer, self._observation)
        except Exception as error:  # as above
            self._give_up(error)

    def _observation(self) -> Observation:
        if self._present is None:
            self._present = Observation()
            self._begin(self._present)
        return self._present

    def _give_up(self, error: Exception) -> None:
        # The hooks stay, because torch is iterating over them.
        self._models = []
        self._remark([f"The layers are no longer recorded ({_told(error)})."])


def is_recorded(torch: Any) -> bool:
    """Return whether torch compiles this step, or captures it in a CUDA graph, which later runs without the hooks."""
    if torch.compiler.is_compiling():
        return True
    return bool(torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())


def _named(torch: Any, model: Any, every: int, name: str, most: int) -> Iterator[WatchedModel]:
    """Yield a watch of a model under its name, then under names that distinguish its layers from other models'."""
    yield WatchedModel(torch, model, every, name, most)
    kind = name or type(model).__name__
    if not name:
        yield WatchedModel(torch, model, every, kind, most)
    number = 2
    while True:
        yield WatchedModel(torch, model, every, f"{kind}{number}", most)
        number += 1


def _as_every(every: object, remarks: Remarks) -> int:
    argument = values.argument("watch_layers", "every")
    whole = values.as_stored_whole(every, argument, remarks, f"{EVERY} is used and it is")
    if whole is not None and whole < 1:
        remarks.append(
            Remark.about(argument, f"{argument} takes a number of steps from 1, not {whole}: {EVERY} is used.")
        )
        whole = None
    return EVERY if whole is None else whole


def _told(error: Exception) -> str:
    return values.as_error(type(error), error, LONGEST_ERROR)


def _left_out(why: str) -> Remark:
    return Remark.about("watch_layers", f"A model is not watched: {why}.")


def _real(torch: Any, tensor: Any) -> Any:
    """Return a tensor of real numbers."""
    return torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
