"""``python -m reasoning.training``: train a shipped model from its recipe, and export it."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from orchestrator.errors import InvalidValue
from reasoning.training.export import export
from reasoning.training.loop import Recipe, train
from reasoning.training.model import SHAPES


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m reasoning.training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train, with checkpoints and a log")
    training.add_argument("model", choices=sorted(SHAPES))
    training.add_argument("folder", type=Path, help="where checkpoint.pt and log.jsonl go")
    training.add_argument("--minutes", type=float, help="fit the schedule into this wall time")
    training.add_argument("--steps", type=int, default=Recipe.steps, help="optimizer steps")
    training.add_argument("--matrix-rate", type=float, default=Recipe.matrix_rate)
    training.add_argument("--other-rate", type=float, default=Recipe.other_rate)
    training.add_argument("--cooldown", type=float, default=Recipe.cooldown)
    training.add_argument("--basics", type=int, default=Recipe.basics, help="tokens at first")
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--threads", type=int, default=2, help="CPU threads")
    training.add_argument("--init", type=Path, help="an exported model to start from")
    training.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    training.add_argument("--eager", action="store_true", help="without torch.compile")
    training.add_argument("--float32", action="store_true", help="no bf16 in linear layers")
    exporting = commands.add_parser("export", help="write a Hugging Face folder")
    exporting.add_argument("folder", type=Path, help="a training run")
    exporting.add_argument("output", type=Path)
    options = parser.parse_args()
    if options.command == "export":
        export(options.folder / "checkpoint.pt", options.output)
        return
    torch.set_num_threads(options.threads)
    recipe = Recipe(
        model=options.model,
        seed=options.seed,
        steps=options.steps,
        minutes=options.minutes,
        matrix_rate=options.matrix_rate,
        other_rate=options.other_rate,
        cooldown=options.cooldown,
        basics=options.basics,
        float32=options.float32,
    )
    try:
        train(
            recipe,
            options.folder,
            init=options.init,
            resume=options.resume,
            compile=not options.eager,
        )
    except InvalidValue as error:
        training.error(str(error))


if __name__ == "__main__":
    main()
