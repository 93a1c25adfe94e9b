"""``python -m reasoning.training native``: the native model and its serial twin, from nothing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from orchestrator.errors import InvalidValue
from reasoning.training.recipe import TrainingRecipe, check_threads

PARALLEL, SERIAL = "native-2m", "native-2m-serial"
SHAPES = (
    *((43, 96), (32, 128), (21, 192), (16, 256), (13, 320), (11, 384)),
    *((9, 448), (8, 512), (6, 640), (5, 768), (4, 1024)),
)
"""About 4,096 tokens a batch."""
BASE_STEPS, STEPS = 1500, 9500
LONGER = 4 / 3
"""So many times the tokens of a serial solution a problem in threads takes; both see as many."""


def add_native(commands: Any) -> None:
    """Add the command to those of a parser."""
    parser = commands.add_parser("native", help="train a model that forks, and its serial twin")
    parser.add_argument("folder", type=Path, help="where the runs and the models go")
    parser.add_argument("--base-steps", type=int, default=BASE_STEPS, help="of serial problems")
    parser.add_argument("--steps", type=int, default=STEPS, help="then, of the twin")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")


def run_native(options: argparse.Namespace) -> None:
    """Train what is not trained yet: first a common base, then both from it on as many problems.

    Raises:
        InvalidValue: an option is out of range.
        KeyboardInterrupt: a signal came; the same command goes on.
    """
    for name in ("base_steps", "steps"):
        if (value := getattr(options, name)) < 1:
            raise InvalidValue(f"{name}: {value} is out of range; give 1 or more")
    check_threads(options.threads)
    base, model, twin = recipes(options.base_steps, options.steps, options.seed)
    import torch  # after the checks, which answer at once

    torch.set_num_threads(options.threads)
    start = _trained(base, options.folder / "base", None)
    for recipe in (model, twin):
        _trained(recipe, options.folder / recipe.model, start)


def recipes(base_steps: int, steps: int, seed: int) -> tuple[TrainingRecipe, ...]:
    """The recipes of the base, of the model that forks, and of its serial twin."""
    base = TrainingRecipe(
        model=SERIAL,
        seed=seed,
        shapes=SHAPES,
        steps=base_steps,
        basics=1_500_000,
        cooldown=0.02,
        other_rate=2e-3,
    )
    model, twin = (
        TrainingRecipe(
            model=name,
            seed=seed + 1,
            shapes=SHAPES,
            steps=count,
            warmup=20,
            cooldown=0.7,
            other_rate=2e-3,
        )
        for name, count in ((PARALLEL, round(steps * LONGER)), (SERIAL, steps))
    )
    return base, model, twin


def _trained(recipe: TrainingRecipe, folder: Path, init: Path | None) -> Path:
    """The exported model of a run, which is begun, or goes on, where it isn't there yet."""
    from reasoning.training.export import export
    from reasoning.training.loop import train

    checkpoint, model = folder / "checkpoint.pt", folder / "model"
    resume = checkpoint.exists()
    train(recipe, folder, init=None if resume else init, resume=resume, compile=False)
    export(checkpoint, model)
    return model
