"""The training loop: packed rows of one fixed shape, Muon and AdamW, checkpoints, a log."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

from orchestrator.errors import InvalidValue
from reasoning.engine.identities import read_identities
from reasoning.language import markup
from reasoning.training.encoding import Encoded, Encoder, stream
from reasoning.training.model import SHAPES, Model


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a training run; same recipe, same data."""

    model: str = "reason-5m"
    seed: int = 0
    shapes: tuple[tuple[int, int], ...] = ((30, 256), (20, 384), (11, 704))
    """(rows, row length) of the batches; a demonstration goes to the shortest row that holds it.
    Few fixed shapes, because each is compiled; short ones, because attention costs its square."""
    steps: int = 5000
    warmup: int = 100
    cooldown: float = 0.5
    """Share of the steps over which the learning rate falls linearly to zero, at the end."""
    matrix_rate: float = 0.02
    other_rate: float = 5e-4
    basics: int = 4_000_000
    """Tokens of sub-searches and arithmetic that come before the whole mixture."""
    float32: bool = False
    """Linear layers in float32 instead of bf16: faster on processors that emulate bf16."""
    minutes: float | None = None
    """Stop after this wall time: the cooldown is then placed by time instead of by step."""


Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def batches(recipe: Recipe, first: int = 0, *, basics: int | None = None) -> Iterator[Batch]:
    """Rows packed from the demonstrations: tokens, positions, path identities, masks, loss weights.

    A run resumed at step ``first`` draws new demonstrations instead of replaying the old ones,
    and each process of a group draws its own.
    """
    rank = dist.get_rank() if dist.is_initialized() else 0
    rng = random.Random(f"{recipe.seed}/{first}/{rank}" if first or rank else recipe.seed)
    lengths = [length for _, length in recipe.shapes]
    queues: list[list[Encoded]] = [[] for _ in lengths]
    waiting = [0] * len(lengths)
    if basics is None:
        basics = 0 if first else recipe.basics
    for item in stream(rng, Encoder(), lengths, basics=basics):
        kind = next(k for k, length in enumerate(lengths) if len(item.tokens) <= length)
        queues[kind].append(item)
        waiting[kind] += len(item.tokens)
        rows, length = recipe.shapes[kind]
        if waiting[kind] < 2 * rows * length:  # the other half lets the rows be packed tightly
            continue
        packed = [_pack(queues[kind], length) for _ in range(rows)]
        waiting[kind] = sum(len(item.tokens) for item in queues[kind])
        yield tuple(torch.stack(column) for column in zip(*packed, strict=True))  # type: ignore[misc]


def _pack(queue: list[Encoded], length: int) -> Batch:
    """Fill one row: the demonstration that waited longest, then always the longest that fits."""
    tokens = torch.full((length,), markup.VOCABULARY.index(markup.PAD))
    positions, weights = torch.zeros(length), torch.zeros(length)
    paths = torch.zeros(length, dtype=torch.long)
    mask = torch.eye(length, dtype=torch.bool)  # padding sees itself, so that no row is empty
    start = 0
    index: int | None = 0
    while index is not None:
        item = queue.pop(index)
        end = start + len(item.tokens)
        tokens[start:end] = torch.tensor(item.tokens)
        positions[start:end] = torch.tensor(item.positions, dtype=torch.float32)
        paths[start:end] = torch.tensor(item.paths)
        # The first token of a document is never predicted from the one before it.
        weights[start:end] = torch.tensor([0.0, *item.weights[1:]])
        causal = torch.ones(end - start, end - start, dtype=torch.bool).tril()
        mask[start:end, start:end] = causal if item.mask is None else item.mask
        start = end
        index = max(
            (i for i, other in enumerate(queue) if len(other.tokens) <= length - start),
            key=lambda i: len(queue[i].tokens),
            default=None,
        )
    return tokens, positions, paths, mask, weights


def train(
    recipe: Recipe,
    folder: Path,
    *,
    init: Path | None = None,
    resume: bool = False,
    compile: bool = True,
) -> Model:
    """Run a recipe; ``folder`` gets ``log.jsonl`` and ``checkpoint.pt`` (every 100 steps).

    ``init`` is an exported model to start from; ``resume`` goes on from the checkpoint.  Started
    by ``torch.distributed.run``, its processes train one model, each on batches of its own.

    Raises:
        InvalidValue: the folder holds a checkpoint and ``resume`` is off.
    """
    if (folder / "checkpoint.pt").exists() and not resume:
        raise InvalidValue(
            f"folder: {folder} holds a run; give --resume to go on, or another folder"
        )
    first = _join_group()
    torch.manual_seed(recipe.seed)
    folder.mkdir(parents=True, exist_ok=True)
    shape = SHAPES[recipe.model]
    model = Model(shape)
    optimizers = _optimizers(model, recipe)
    before: dict[str, Any] | None = None
    if init is not None:
        weights = load_file(init / "model.safetensors")
        identity = read_identities(init, shape.layers, shape.head_dim)
        if identity is not None:
            weights["model.path_identity"] = identity
        model.start_from(weights)
        before = json.loads((init / "recipe.json").read_text())
    step, spent, seen = 0, 0.0, 0
    if resume and (folder / "checkpoint.pt").exists():
        step, spent, seen = _load(folder / "checkpoint.pt", model, optimizers)
    source = batches(recipe, step, basics=0 if init else None)
    compiled = torch.compile(model) if compile else model
    started, elapsed = time.monotonic() - spent, spent
    with (folder / "log.jsonl").open("a") as log:
        while (progress := _progress(recipe, step, elapsed)) < 1:
            batch = next(source)
            _set_rates(optimizers, step, progress, recipe)
            with torch.autocast("cpu", torch.bfloat16, enabled=not recipe.float32):
                loss, right = compiled(*batch)
            loss.backward()
            elapsed = _agree(model, time.monotonic() - started)
            _descend(model, optimizers, step)
            seen += batch[0].numel() * (dist.get_world_size() if dist.is_initialized() else 1)
            if first and step % 20 == 0:
                row = {
                    "step": step,
                    "tokens": seen,
                    "loss": round(loss.item(), 4),
                    "right": round(right.item(), 4),
                    "seconds": round(elapsed, 1),
                    "progress": round(progress, 4),
                }
                log.write(json.dumps(row) + "\n")
                log.flush()
            step += 1
            if first and step % 100 == 0:
                _save(folder, model, optimizers, recipe, before, step, elapsed, seen)
    if first:
        _save(folder, model, optimizers, recipe, before, step, elapsed, seen)
    return model


def _descend(model: Model, optimizers: list[torch.optim.Optimizer], step: int) -> None:
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    if not norm.isfinite():
        raise FloatingPointError(
            f"the gradient is {norm.item()} at step {step}; try --eager (torch.compile "
            "gave that on one machine), else lower the rates"
        )
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _join_group() -> bool:
    """Join the group that ``torch.distributed.run`` made, if it did; whether this is its first."""
    if "RANK" in os.environ and not dist.is_initialized():
        dist.init_process_group("gloo")
    return not dist.is_initialized() or dist.get_rank() == 0


def _agree(model: Model, seconds: float) -> float:
    """Give all processes the mean of their gradients; returns the mean of their times."""
    if not dist.is_initialized():
        return seconds
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    mean = torch.cat([torch.tensor([seconds]), *(g.flatten() for g in gradients)])
    dist.all_reduce(mean)
    mean /= dist.get_world_size()
    torch.nn.utils.vector_to_parameters(mean[1:], gradients)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    return mean[0].item()


def _progress(recipe: Recipe, step: int, seconds: float) -> float:
    """How much of the schedule is done, by steps or by time, whichever is further."""
    by_time = seconds / 60 / recipe.minutes if recipe.minutes is not None else 0.0
    by_step = step / recipe.steps if recipe.steps else 1.0
    return max(by_step, by_time)


def _optimizers(model: Model, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the layers' matrices, AdamW for embedding and norms."""
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=recipe.matrix_rate, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(others, lr=recipe.other_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _set_rates(
    optimizers: list[torch.optim.Optimizer], step: int, progress: float, recipe: Recipe
) -> None:
    factor = min(1.0, (step + 1) / recipe.warmup, (1 - progress) / recipe.cooldown)
    for optimizer, rate in zip(optimizers, (recipe.matrix_rate, recipe.other_rate), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate * max(factor, 0.0)


def _save(
    folder: Path,
    model: Model,
    optimizers: list[torch.optim.Optimizer],
    recipe: Recipe,
    before: dict[str, Any] | None,
    step: int,
    seconds: float,
    tokens: int,
) -> None:
    state: dict[str, Any] = {
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "recipe": asdict(recipe),
        "before": before,
        "step": step,
        "seconds": seconds,
        "tokens": tokens,
    }
    partial = folder / "checkpoint.partial"
    torch.save(state, partial)
    partial.replace(folder / "checkpoint.pt")


def _load(
    path: Path, model: Model, optimizers: list[torch.optim.Optimizer]
) -> tuple[int, float, int]:
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return state["step"], state["seconds"], state["tokens"]
