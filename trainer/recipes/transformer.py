"""A small language model: a decoder-only Transformer that reads real text byte by byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.recipes.datasets import load_documentation, load_standard_library
from trainer.recipes.schedules import warmup_cosine
from trainer.worker.randomness import sample_uniform
from trainer.worker.recipe import Batch, Recipe, parameter

BYTES = 256
# Every tenth piece of this many bytes is held out. The split is part of the task, not of a run.
PIECE_BYTES, HOLD_OUT_EVERY = 4096, 10
EVALUATION_BYTES = 16_384
ROTARY_BASE = 10_000.0
SAMPLE_SEED = 1


class Transformer(Recipe):
    """A decoder-only Transformer that learns to continue English text or Python source, byte by byte.

    It reads Python's own documentation (370 kB) or the sources of its standard library (11 MB), so nothing is
    downloaded. Pre-norm blocks with rotary positions, input and output weights tied. After each epoch it
    continues a fixed prompt, and the result is shown.
    """

    title = "Transformer on text"
    threads = 1

    epochs: int = parameter(10, minimum=1, maximum=100_000, help="passes over the training text")
    batch_size: int = parameter(16, minimum=1, maximum=65_536, help="text sequences per step")
    text: str = parameter(
        "documentation",
        choices=("documentation", "sources"),
        help="training text: Python's documentation (English) or its standard library (source code)",
    )
    context: int = parameter(64, minimum=8, maximum=4096, help="context length in bytes")
    layers: int = parameter(2, minimum=1, maximum=64, help="blocks of attention and feed-forward network")
    heads: int = parameter(4, minimum=1, maximum=64, help="attention heads of each block")
    head_width: int = parameter(
        32, choices=(8, 16, 32, 64, 128), help="width of a head; the width of the model is heads times head_width"
    )
    dropout: float = parameter(
        0.0, minimum=0.0, maximum=0.9, help="fraction of features left out while training", knob=True
    )
    learning_rate: float = parameter(
        0.003, minimum=1e-6, maximum=1.0, help="highest learning rate, after the warm-up", knob=True, scale="log"
    )
    warmup_steps: int = parameter(50, minimum=0, maximum=100_000, help="steps in which the learning rate rises from 0")
    weight_decay: float = parameter(
        0.1, minimum=0.0, maximum=1.0, help="weight decay of AdamW, on matrices only", knob=True
    )
    gradient_clip: float = parameter(
        1.0, minimum=0.001, maximum=1000.0, help="max norm to which gradients are clipped", knob=True, scale="log"
    )
    prompt: str = parameter("The ", help="text that the model continues after each epoch")
    sample_length: int = parameter(
        200, minimum=0, maximum=4000, help="length in bytes of the text that the model writes; 0: no text"
    )
    temperature: float = parameter(
        0.8,
        minimum=0.05,
        maximum=5.0,
        help="sampling temperature: higher is more random; 1: unscaled",
        knob=True,
        scale="log",
    )

    def build(self) -> None:
        text = load_documentation() if self.text == "documentation" else load_standard_library()
        pieces = torch.split(torch.from_numpy(text), PIECE_BYTES)
        held_out = [index % HOLD_OUT_EVERY == HOLD_OUT_EVERY - 1 for index in range(len(pieces))]
        self.training = torch.cat([piece for piece, out in zip(pieces, held_out, strict=True) if not out])
        self.validation = torch.cat([piece for piece, out in zip(pieces, held_out, strict=True) if out])
        self.training, self.validation = self.training.to(self.device), self.validation.to(self.device)
        # One window fewer than fits: an epoch's offset shifts all of them, and each needs one more byte as its target.
        self.train_size = (len(self.training) - 1) // self.context - 1

        width = self.heads * self.head_width
        self.model = Decoder(width, self.layers, self.heads, self.context, self.dropout).to(self.device)
        matrices = [each for each in self.model.parameters() if each.dim() > 1]
        vectors = [each for each in self.model.parameters() if each.dim() == 1]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(
            groups,
            lr=self.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=self.weight_decay,
            fused=self.device.type == "cuda",
        )
        steps = self.epochs * self.steps_per_epoch
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: warmup_cosine(step, warmup=self.warmup_steps, total=steps, floor=0.1)
        )

    def set_weight_decay(self, value: float, group: str = "") -> None:
        """Set it for matrices, the first group, even if it was 0 for all."""
        self.optimizer.param_groups[0]["weight_decay"] = value

    def set_dropout(self, value: float) -> None:
        for block in self.model.modules():
            if isinstance(block, TransformerBlock):
                block.dropout = value

    @property
    def units_per_sample(self) -> Mapping[str, int]:
        return {"tokens": self.context}

    def train_batches(self, epoch: int, first: int) -> Iterator[Batch]:
        # Each epoch divides the text at another offset, so that no byte is always the first of its window.
        offset = int(sample_uniform(self.seed, epoch, torch.tensor([self.train_size]), 1).item() * self.context)
        for indices in self.shuffled(epoch, first):
            yield stretches(self.training, offset + indices * self.context, self.context)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        inputs, targets = batch
        logits = self.model(inputs)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten()), {}

    def derived(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"perplexity": means["loss"].exp()}

    def evaluate(self) -> dict[str, float | Tensor]:
        starts = torch.arange(0, len(self.validation) - self.context - 1, self.context, device=self.device)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for chosen in torch.split(starts, max(1, EVALUATION_BYTES // self.context)):
            loss, _ = self.loss(stretches(self.validation, chosen, self.context))
            total += loss.double() * len(chosen)
        mean = total / len(starts)
        return {"validation_loss": mean, "validation_perplexity": mean.exp()}

    def texts(self) -> dict[str, str]:
        if not self.sample_length:
            return {}
        # The generator is created anew, so that differences between epochs come from training, not from chance.
        generator = torch.Generator().manual_seed(SAMPLE_SEED)
        written = list((self.prompt or "\n").encode())
        for _ in range(self.sample_length):
            seen = torch.tensor([written[-self.context :]], device=self.device)
            logits = self.model(seen)[0, -1].float().cpu() / self.temperature
            if not logits.isfinite().all():
                return {"sample": readable(written) + " … (the model no longer gives finite numbers)"}
            written.append(int(torch.multinomial(logits.softmax(0), 1, generator=generator)))
        return {"sample": readable(written)}


class Decoder(nn.Module):
    """Maps bytes to the logits of the byte that follows each: int64 (n, length) to float (n, length, 256)."""

    cosines: Tensor
    sines: Tensor

    def __init__(self, width: int, layers: int, heads: int, context: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BYTES, width)
        blocks = [TransformerBlock(width, heads, dropout) for _ in range(layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        rotation = rotary(context, width // heads)
        self.register_buffer("cosines", rotation.cos(), persistent=False)
        self.register_buffer("sines", rotation.sin(), persistent=False)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        for block in blocks:
            # Initially a block adds zero, which stabilises the start, especially in deeper models.
            nn.init.zeros_(block.attended.weight)
            nn.init.zeros_(block.contracted.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        rotation = self.cosines[:length], self.sines[:length]
        hidden = self.embedding(tokens)
        for block in self.blocks:
            hidden = block(hidden, rotation)
        # The embedding is also the output layer.
        return functional.linear(self.norm(hidden), self.embedding.weight)


class TransformerBlock(nn.Module):
    """Causal attention, then a feed-forward network, each added to its input: (n, length, width) to the same shape."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(width)
        self.projections = nn.Linear(width, 3 * width, bias=False)
        self.attended = nn.Linear(width, width, bias=False)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.expanded = nn.Linear(width, 4 * width)
        self.contracted = nn.Linear(4 * width, width, bias=False)

    def forward(self, hidden: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        projected = self.projections(self.attention_norm(hidden)).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = projected.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(
            rotated(queries, rotation),
            rotated(keys, rotation),
            values,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=True,
        )
        hidden = hidden + self.attended(mixed.transpose(1, 2).flatten(2))
        expanded = functional.gelu(self.expanded(self.feed_forward_norm(hidden)))
        added: Tensor = self.contracted(functional.dropout(expanded, self.dropout, self.training))
        return hidden + added


def rotary(context: int, width: int) -> Tensor:
    """Return the angle of each pair of features at each position: float32 of shape (context, width // 2)."""
    frequencies = ROTARY_BASE ** (-torch.arange(0, width // 2) / (width // 2))
    return torch.arange(context)[:, None] * frequencies


def rotated(vectors: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate each pair of features by its angle, so that the product of two vectors depends on their distance."""
    cosines, sines = rotation
    first, second = vectors.chunk(2, dim=-1)
    return torch.cat([first * cosines - second * sines, first * sines + second * cosines], dim=-1).to(vectors.dtype)


def stretches(text: Tensor, starts: Tensor, length: int) -> Batch:
    """Return the bytes from each of `starts`, and the same shifted by one: two int64 of shape (len(starts), length)."""
    positions = starts[:, None] + torch.arange(length + 1, device=text.device)
    taken = text[positions].long()
    return taken[:, :-1], taken[:, 1:]


def readable(written: list[int]) -> str:
    """Return bytes as text; invalid UTF-8 and unprintable characters become replacement characters."""
    text = bytes(written).decode(errors="replace")
    return "".join(each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in text)
