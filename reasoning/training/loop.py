"""The training loop: Muon and AdamW, checkpoints, a log, and processes that train together."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch
import torch.distributed as dist

from orchestrator.errors import InvalidValue
from reasoning.training.batches import STRETCH, Batch, batches
from reasoning.training.export import (
    IDENTITY,
    no_model,
    read_checkpoint,
    read_exported,
    write_checkpoint,
)
from reasoning.training.model import TrainableModel
from reasoning.training.recipe import TrainingRecipe, find_task


def train(
    recipe: TrainingRecipe,
    folder: Path,
    *,
    init: Path | None = None,
    resume: bool = False,
    compile: bool = True,
) -> TrainableModel:
    """Run a recipe; ``folder`` gets ``log.jsonl`` and ``checkpoint.pt`` (every 100 steps).

    Under ``torch.distributed.run`` the processes train one model, each on batches of its own.
    A signal that ends a program, such as Ctrl-C, leaves a checkpoint, too.

    Args:
        init: The folder of an exported model to start from.
        resume: Go on with the run in ``folder`` where it was; ``recipe`` is that run's, perhaps
            lengthened.

    Raises:
        InvalidValue: ``folder`` has a run and ``resume`` is off, or has none and it is on; or
            ``init`` is no model of this shape.
        KeyboardInterrupt: a signal came.
    """
    checkpoint = folder / "checkpoint.pt"
    if not resume and checkpoint.exists():
        raise InvalidValue(f"folder: {folder} holds a run; give --resume, or another folder")
    first = _join_group()
    run = TrainingRun(recipe)
    if init is not None:
        run.start_from(init)
    if resume:
        run.load(checkpoint)
    make_folder(folder)
    forward = torch.compile(run.model) if compile else run.model
    with (folder / "log.jsonl").open("a") as log, _interruptions() as interrupted:
        _go_on(run, forward, interrupted, log if first else None, checkpoint)
    if first:
        run.save(checkpoint)
    if dist.is_initialized():
        dist.barrier()  # a process that ends by a signal has the group's others ended at once
    if interrupted:
        raise KeyboardInterrupt
    return run.model


def _go_on(
    run: TrainingRun,
    forward: Callable[..., Any],
    interrupted: list[int],
    log: TextIO | None,
    checkpoint: Path,
) -> None:
    """Do the steps of a run that are left, until it is ``interrupted``.

    The first process of a group has the ``log``, and writes checkpoints.
    """
    source = batches(run.recipe, run.step, basics=run.basics)
    started = time.monotonic() - run.seconds
    while (progress := run.progress()) < 1 and not interrupted:
        row = run.advance(next(source), forward, progress, started)
        _share(interrupted)
        if log and row["step"] % 20 == 0:
            log.write(json.dumps(row) + "\n")
            log.flush()
        if log and run.step % STRETCH == 0:
            run.save(checkpoint)


@contextmanager
def _interruptions() -> Iterator[list[int]]:
    """Gives the signals that came, of those that end a program; a second one ends it at once.

    A step is finished first, so that a checkpoint never lies within one.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    ending = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in ending}

    def take(number: int, frame: object) -> None:
        came.append(number)
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in ending:
        signal.signal(number, take)
    try:
        yield came
    finally:
        restore()


def make_folder(folder: Path) -> None:
    """Make a run's folder.

    Raises:
        InvalidValue: it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidValue(f"folder: {folder} can't be made ({error.strerror})") from error


class TrainingRun:
    """A model in training.

    Attributes:
        before: The recipe of the run that this one started from, if it did.
        step: Optimizer steps done.
        seconds: Wall time spent on them.
        tokens: Tokens of the batches, padding included, over all processes.
        basics: Tokens of basics that were left where this stretch of batches began.
    """

    def __init__(self, recipe: TrainingRecipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.task = find_task(recipe.model)
        self.model = TrainableModel(self.task.shape)
        if self.task.initialise is not None:
            self.task.initialise(self.model.model.embed_tokens.weight)
        self.optimizers = _optimizers(self.model, recipe)
        self.before: dict[str, Any] | None = None
        self.step, self.seconds, self.tokens = 0, 0.0, 0
        self.basics = recipe.basics

    def start_from(self, folder: Path) -> None:
        """Take the weights of an exported model, which has had its basics.

        Raises:
            InvalidValue: the folder is no exported model of this shape.
        """
        weights, before = read_exported(folder, self.recipe.model)
        if self.task.adopt is not None:
            weights = self.task.adopt(weights)
        none = torch.zeros_like(self.model.model.path_identity)
        try:
            self.model.load_state_dict({IDENTITY: none, **weights})
        except RuntimeError as error:
            raise no_model(folder, self.recipe.model) from error
        self.before = before
        self.basics = 0

    def load(self, checkpoint: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            InvalidValue: there is none, it can't be read, or it has another recipe.
        """
        state = read_checkpoint(checkpoint, "optimizers", "basics", "seconds")
        TrainingRecipe.read(state["recipe"]).lengthened(vars(self.recipe))
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.seconds, self.tokens = state["step"], state["seconds"], state["tokens"]
        self.before, self.basics = state["before"], state["basics"]

    def save(self, checkpoint: Path) -> None:
        """Write a checkpoint, as a whole."""
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "recipe": self.recipe.written(),
            "before": self.before,
            "basics": self.basics,
            "step": self.step,
            "seconds": self.seconds,
            "tokens": self.tokens,
        }
        write_checkpoint(state, checkpoint)

    def progress(self) -> float:
        """The share of the schedule that is done, by steps or by time, whichever is more."""
        recipe = self.recipe
        by_time = self.seconds / 60 / recipe.minutes if recipe.minutes is not None else 0.0
        by_step = self.step / recipe.steps if recipe.steps else 1.0
        return max(by_step, by_time)

    def advance(
        self, batch: Batch, forward: Callable[..., Any], progress: float, started: float
    ) -> dict[str, float]:
        """Do one optimizer step; returns the row for the log."""
        self._set_rates(progress)
        with torch.autocast("cpu", torch.bfloat16, enabled=not self.recipe.float32):
            loss, right = forward(*batch)
        loss.backward()
        self.seconds = _average_gradients(self.model, time.monotonic() - started)
        self._descend()
        self.tokens += batch[0].numel() * (dist.get_world_size() if dist.is_initialized() else 1)
        self.step += 1
        if self.step % STRETCH == 0:
            given = 0 if self.before is not None else self.recipe.basics
            self.basics = max(0, given - self.tokens)
        return {
            "step": self.step - 1,
            "tokens": self.tokens,
            "loss": round(loss.item(), 4),
            "right": round(right.item(), 4),
            "seconds": round(self.seconds, 1),
            "progress": round(progress, 4),
        }

    def _set_rates(self, progress: float) -> None:
        recipe = self.recipe
        factor = min(1.0, (self.step + 1) / recipe.warmup, (1 - progress) / recipe.cooldown)
        rates = (recipe.matrix_rate, recipe.other_rate)
        for optimizer, rate in zip(self.optimizers, rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * max(factor, 0.0)

    def _descend(self) -> None:
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if not norm.isfinite():
            raise FloatingPointError(
                f"the gradient is {norm.item()} at step {self.step}; try --eager (torch.compile "
                "gave that on one machine), else lower the rates"
            )
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def _optimizers(model: TrainableModel, recipe: TrainingRecipe) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the layers' matrices, AdamW for embedding and norms."""
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=recipe.matrix_rate, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(others, lr=recipe.other_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _join_group() -> bool:
    """Join the group of ``torch.distributed.run``, if any; returns whether this is its first."""
    if "RANK" in os.environ and not dist.is_initialized():
        dist.init_process_group("gloo")
    return not dist.is_initialized() or dist.get_rank() == 0


def _share(interrupted: list[int]) -> None:
    """Have all processes of a group end at the same step."""
    if dist.is_initialized():
        most = torch.tensor([max(interrupted, default=0)])
        dist.all_reduce(most, dist.ReduceOp.MAX)
        if most.item() and not interrupted:
            interrupted.append(int(most.item()))


def _average_gradients(model: TrainableModel, seconds: float) -> float:
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
