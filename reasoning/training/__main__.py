"""``python -m reasoning.training``: train a shipped model from its recipe, and export it."""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.errors import InvalidValue
from reasoning.training.recipe import SHAPES, TrainingRecipe
from reasoning.training.reinforce.command import add_command, run_command


def main() -> None:
    parser = _parser()
    options = parser.parse_args()
    try:
        COMMANDS[options.command](options)
    except InvalidValue as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reasoning.training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train, default = commands.add_parser("train", help="train, with a log"), TrainingRecipe
    train.add_argument("model", choices=sorted(SHAPES))
    train.add_argument("folder", type=Path, help="where checkpoint.pt and log.jsonl go")
    train.add_argument("--minutes", type=float, help="fit the schedule into this wall time")
    train.add_argument("--steps", type=int, default=default.steps, help="optimizer steps")
    train.add_argument("--matrix-rate", type=float, default=default.matrix_rate)
    train.add_argument("--other-rate", type=float, default=default.other_rate)
    train.add_argument("--cooldown", type=float, default=default.cooldown)
    train.add_argument("--basics", type=int, default=default.basics, help="tokens at first")
    train.add_argument("--seed", type=int, default=default.seed)
    train.add_argument("--threads", type=int, default=2, help="CPU threads")
    train.add_argument("--init", type=Path, help="an exported model to start from")
    train.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    train.add_argument("--eager", action="store_true", help="without torch.compile")
    train.add_argument("--float32", action="store_true", help="no bf16 in linear layers")
    add_command(commands)
    export = commands.add_parser("export", help="write a Hugging Face folder")
    export.add_argument("folder", type=Path, help="a training run")
    export.add_argument("output", type=Path)
    return parser


def _train(options: argparse.Namespace) -> None:
    given = vars(options)
    shared = given.keys() & TrainingRecipe.__dataclass_fields__.keys()
    recipe = TrainingRecipe(**{name: given[name] for name in shared})
    if options.threads < 1:
        raise InvalidValue(f"threads: {options.threads} is out of range; give 1 or more")
    import torch  # after the checks, which answer at once

    from reasoning.training.loop import train

    torch.set_num_threads(options.threads)
    train(
        recipe, options.folder, init=options.init, resume=options.resume, compile=not options.eager
    )


def _export(options: argparse.Namespace) -> None:
    from reasoning.training.export import export

    export(options.folder / "checkpoint.pt", options.output)


COMMANDS = {"train": _train, "reinforce": run_command, "export": _export}


if __name__ == "__main__":
    main()
