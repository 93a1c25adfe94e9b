"""``python -m reasoning.training MODEL FOLDER``: train a shipped model from its recipe."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from reasoning.training.loop import Recipe, train
from reasoning.training.model import SHAPES


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m reasoning.training", description=__doc__)
    parser.add_argument("model", choices=sorted(SHAPES), help="which model to train")
    parser.add_argument("folder", type=Path, help="where checkpoints and the log go")
    parser.add_argument("--minutes", type=float, help="fit the whole schedule into this wall time")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="length in optimizer steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = Recipe(
        model=options.model, seed=options.seed, steps=options.steps, minutes=options.minutes
    )
    train(recipe, options.folder, resume=options.resume)


if __name__ == "__main__":
    main()
