"""Rounds of reinforcement learning: the engine samples a round while the last one is learned."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import anyio
import anyio.to_thread
import torch

from orchestrator.errors import InvalidValue, leaf
from reasoning.backends.embedded import EmbeddedBackend
from reasoning.engine.decoders.loading import load_decoder
from reasoning.models.embedded import EmbeddedSource
from reasoning.training.batches import Batch, batches
from reasoning.training.export import export, read_checkpoint, write_checkpoint
from reasoning.training.loop import TrainingRun, make_folder
from reasoning.training.model import TrainableModel
from reasoning.training.recipe import SHAPES, TrainingRecipe
from reasoning.training.reinforce.learner import Learner, Learnt
from reasoning.training.reinforce.problems import drawn
from reasoning.training.reinforce.recipe import ReinforceRecipe
from reasoning.training.reinforce.rollouts import Group, GroupSampler, Rollout, SampledThread

CHECKPOINT = "checkpoint.pt"
ANCHOR_SHAPES = ((8, 256), (5, 384), (3, 704))
"""(rows, row length) of the demonstrations of one optimizer step."""


def reinforce(recipe: ReinforceRecipe, folder: Path, *, init: Path) -> None:
    """Run a recipe from an exported model.

    ``folder`` gets ``log.jsonl``, ``checkpoint.pt`` and ``model``, the exported weights, after each
    round, so an interrupt loses the round in work and nothing else.

    Raises:
        InvalidValue: ``folder`` holds a run already, or ``init`` is no such model.
    """
    if (folder / CHECKPOINT).exists():
        raise InvalidValue(f"folder: {folder} holds a run; give --resume, or another folder")
    torch.set_num_threads(recipe.threads)
    start = TrainingRun(TrainingRecipe(model=recipe.model))
    start.start_from(init)
    _run(ReinforceRun(recipe, folder, start.model, before=start.before))


def go_on(folder: Path, *, rounds: int | None = None) -> None:
    """Go on with the run in ``folder``, by its own recipe, up to ``rounds`` if they are given.

    A checkpoint holds the runs that were sampled and not yet learned from, so that this is the run
    as it would have been without the interruption.

    Raises:
        InvalidValue: ``folder`` holds no run.
    """
    state = _read(folder)
    recipe = _recipe(state)
    recipe = recipe if rounds is None else replace(recipe, rounds=rounds)
    torch.set_num_threads(recipe.threads)
    model = TrainableModel(SHAPES[recipe.model])
    run = ReinforceRun(recipe, folder, model, before=state["before"])
    run.load(state)
    _run(run)


def _run(run: ReinforceRun) -> None:
    try:
        anyio.run(run.go)
    except ExceptionGroup as errors:
        raise leaf(errors) from errors


def recipe_of(folder: Path) -> ReinforceRecipe:
    """The recipe of the run in ``folder``.

    Raises:
        InvalidValue: ``folder`` holds no run.
    """
    return _recipe(_read(folder))


def _read(folder: Path) -> dict[str, Any]:
    """A checkpoint."""
    if not (folder / CHECKPOINT).is_file():
        raise InvalidValue(f"folder: {folder} holds no run to go on with; leave --resume out")
    state = read_checkpoint(folder / CHECKPOINT, "optimizer", "round")
    try:
        _recipe(state)
    except TypeError as error:
        raise InvalidValue(f"folder: {folder} holds a run of another kind; name its own") from error
    return state


def _recipe(state: dict[str, Any]) -> ReinforceRecipe:
    return ReinforceRecipe(**state["recipe"])


class ReinforceRun:
    """A model that learns from its own runs.

    Attributes:
        round: Rounds done.
        tokens: Tokens of work sampled for the rounds done.
    """

    def __init__(
        self,
        recipe: ReinforceRecipe,
        folder: Path,
        model: TrainableModel,
        *,
        before: dict[str, Any] | None = None,
    ) -> None:
        """``before`` is the recipe by which the model was made."""
        self.recipe = recipe
        self.round, self.tokens, self.seconds = 0, 0, 0.0
        self._folder = folder
        self._before = before
        self.learner = Learner(model, recipe, self._demonstrations)
        self._next: list[Group] | None = None
        make_folder(folder)

    def _demonstrations(self, step: int) -> Batch:
        """The demonstrations of an optimizer step, which follow from the seed and its number."""
        seed = 1_000_003 * self.recipe.seed + step
        return next(batches(TrainingRecipe(shapes=ANCHOR_SHAPES, seed=seed), basics=0))

    async def go(self) -> None:
        """Do the rounds that are left."""
        self._write_model()
        model = EmbeddedSource(threads=1).load(self._model_folder)
        assert isinstance(model.backend, EmbeddedBackend)
        sampler = GroupSampler(model, self.recipe)
        async with model.backend:
            if self._next is None and self.round < self.recipe.rounds:
                self._next = await self._sample(sampler, self.round)
            while self.round < self.recipe.rounds:
                await self._advance(sampler)
                decoder = load_decoder(self._model_folder, torch.float32, "cpu")
                model.backend.engine.replace(decoder)

    async def _sample(self, sampler: GroupSampler, number: int) -> list[Group]:
        return await sampler.groups(drawn(self.recipe, number), number)

    async def _advance(self, sampler: GroupSampler) -> None:
        """Learn from a round while the next one is sampled, by the weights of the round before."""
        started, groups = time.monotonic(), self._next
        assert groups is not None
        following: list[Group] | None = None

        async def sample() -> None:
            nonlocal following
            if self.round + 1 < self.recipe.rounds:
                following = await self._sample(sampler, self.round + 1)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sample)
            progress = self.round / self.recipe.rounds
            learnt = await anyio.to_thread.run_sync(self.learner.learn, groups, progress)
        self.round, self._next = self.round + 1, following
        self.seconds += time.monotonic() - started
        self.tokens += sum(one.work for group in groups for one in group.rollouts)
        self._write_model()
        self._log(groups, learnt)

    # What is written.

    @property
    def _model_folder(self) -> Path:
        return self._folder / "model"

    def _write_model(self) -> None:
        """Write the weights as an exported model, which the engine loads as anybody would."""
        self.save()
        export(self._folder / CHECKPOINT, self._model_folder)
        if self.round and self.round % self.recipe.keep == 0:
            export(self._folder / CHECKPOINT, self._folder / f"model-{self.round:04}")

    def save(self) -> None:
        """Write a checkpoint, as a whole."""
        state = {
            "model": self.learner.model.state_dict(),
            "optimizer": self.learner.optimizer.state_dict(),
            "recipe": asdict(self.recipe),
            "before": self._before,
            "step": self.learner.steps,
            "round": self.round,
            "seconds": self.seconds,
            "tokens": self.tokens,
            "next": None if self._next is None else _packed(self._next),
        }
        write_checkpoint(state, self._folder / CHECKPOINT)

    def load(self, state: dict[str, Any]) -> None:
        """Be where a checkpoint was written."""
        self.learner.model.load_state_dict(state["model"])
        self.learner.optimizer.load_state_dict(state["optimizer"])
        self.learner.steps = state["step"]
        self.round, self.tokens = state["round"], state["tokens"]
        self.seconds = state["seconds"]
        self._next = None if state["next"] is None else _unpacked(state["next"])

    def _log(self, groups: Sequence[Group], learnt: Sequence[Learnt]) -> None:
        row = {"round": self.round - 1, "seconds": round(self.seconds), **_measured(groups)}
        row |= {"learned": sum(one.tokens for one in learnt)}
        for name in ("clipped", "drift", "norm"):
            row[name] = _mean([getattr(one, name) for one in learnt], 5)
        with (self._folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")


def _measured(groups: Sequence[Group]) -> dict[str, Any]:
    """What a round's runs came to; None for means over no run."""
    runs = [one for group in groups for one in group.rollouts]
    whole = [one for one in runs if not one.hopeless]
    every = [logprob for run in runs for thread in run.threads for logprob in thread.sampled]
    return {
        "accuracy": _mean([one.right for one in runs], 4),
        "reward": _mean([one.reward for one in runs], 4),
        "span": _mean([one.span for one in whole], 1),
        "children": _mean([len(one.threads) - 1 for one in whole], 2),
        "tokens": _mean([one.work for one in whole], 1),
        # The sampled tokens' mean surprise is an unbiased estimate of the policy's entropy.
        "entropy": _mean([-logprob for logprob in every], 5),
        "hopeless": sum(one.hopeless for one in runs),
        "equal": sum(group.unlearnable == "equal" for group in groups),
        "held_out": sum(group.unlearnable == "held out" for group in groups),
    }


def _mean(values: Sequence[float], digits: int) -> float | None:
    return round(fmean(values), digits) if values else None


def _packed(groups: Sequence[Group]) -> list[Any]:
    """Groups as plain values."""
    return [
        [
            group.unlearnable,
            *([*one[1:], [(t.tokens, t.logprobs) for t in one.threads]] for one in group.rollouts),
        ]
        for group in groups
    ]


def _unpacked(packed: Sequence[Any]) -> list[Group]:
    return [
        Group(
            [
                Rollout([SampledThread(tokens=t, logprobs=p) for t, p in threads], *values)
                for *values, threads in rollouts
            ],
            unlearnable,
        )
        for unlearnable, *rollouts in packed
    ]
