"""The kind of a series, from its name or its declared goal: whether less is better, or more, or neither."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from runs.alerts.layers.origin import is_layer_norm
from runs.protocol.series_names import LOSS_NAMES

Goal = Literal["min", "max"]
# free_loss: a loss that rises and falls in healthy trainings, as those of GANs and of policies do.
Kind = Literal["loss", "free_loss", "score", "speed", "duration", "data_wait", "gradient", "layer", "machine", "other"]

WORDS = re.compile(r"[a-z]+|\d+")
# Splits validationLoss into two words.
HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


LOSS = _set(
    "loss losses nll ce bce xent crossentropy mse mae rmse mape error err perplexity ppl bpc bpb bpd wer cer cost"
)
FREE = _set(
    "g d gen disc generator discriminator adversarial adv gan critic actor policy pi value vf q qf pg kl entropy "
    "surrogate temperature alpha td bellman ent coef"
)
SCORE = _set(
    "accuracy acc f auc auroc auprc precision recall iou miou map dice bleu rouge psnr ssim reward rewards rew return "
    "returns score success win top"
)
REWARD = _set("reward rewards rew episode episodic")
SCHEDULED = _set("lr learning momentum decay beta")
VALIDATION = _set("val valid validation eval evaluation test dev holdout")
GRADIENT = _set("grad grads gradient gradients")
LOADING = _set("data loader dataloader input")
SHARES = _set("fraction share ratio percent pct")
SPEED = re.compile(r"(_per_s(ec(ond)?)?|/s(ec)?|throughput|[ _/](tps|fps|ips))$|^(tps|fps|ips)$")
DURATION = re.compile(
    r"(step|iter|iteration|batch)_?(ms|s|time|seconds|duration)(_ms|_s)?$|(ms|s|sec|seconds)_per_step$"
)
MACHINE = ("gpu/", "host/", "system/")


@lru_cache(maxsize=4096)
def words(series: str) -> frozenset[str]:
    """Return the words of a name; none for the norm of a layer, because a layer may be called `loss` or `reward`."""
    if is_layer_norm(series):
        return frozenset()
    return frozenset(WORDS.findall(HUMP.sub(" ", series).lower()))


@lru_cache(maxsize=4096)
def kind_of(series: str, goal: Goal | None = None) -> Kind:
    """Return what `series` measures. A declared goal has precedence over the name."""
    if goal is not None:
        return "loss" if goal == "min" else "score"
    if series in LOSS_NAMES:
        return "loss"
    if is_layer_norm(series):
        return "layer"
    lowered, found = series.lower(), words(series)
    if lowered.startswith(MACHINE):
        return "machine"
    if found & LOADING and "wait" in found and found & SHARES:
        return "data_wait"
    if SPEED.search(lowered):
        return "speed"
    if DURATION.search(lowered):
        return "duration"
    if found & SCHEDULED:
        return "other"
    if found & GRADIENT:
        return "gradient"
    if found & LOSS or {"cross", "entropy"} <= found:
        return "free_loss" if found & FREE and "cross" not in found else "loss"
    return "score" if found & SCORE else "other"


def is_validation(series: str) -> bool:
    """Return whether a series is measured on data that the training does not use."""
    return bool(words(series) & VALIDATION)


def is_reward(series: str) -> bool:
    """Return whether a series measures an agent's reward: the data of its losses change with the agent."""
    return bool(words(series) & REWARD)


def is_learning_rate(series: str) -> bool:
    found = words(series)
    return "lr" in found or {"learning", "rate"} <= found
