"""``python -m reasoning.training``: train a model from its recipe, and export it."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from orchestrator.errors import InvalidValue
from reasoning.training.native.command import add_native, run_native
from reasoning.training.recipe import TASKS, TrainingRecipe, check_threads
from reasoning.training.reinforce.command import add_command, run_command


def main() -> None:
    parser = _parser()
    options = parser.parse_args()
    try:
        COMMANDS[options.command](options)
    except InvalidValue as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}; give a folder that can be written")
    except KeyboardInterrupt:
        parser.exit(130, f"{parser.prog}: stopped; --resume goes on with it\n")


class OneLineParser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="python -m reasoning.training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train, usual = commands.add_parser("train", help="train, with a log"), TrainingRecipe
    train.add_argument("model", help=f"{', '.join(TASKS)}, or module:attribute")
    train.add_argument("folder", type=Path, help="where checkpoint.pt and log.jsonl go")
    train.add_argument("--minutes", type=float, help="fit the schedule into this wall time")
    train.add_argument("--steps", type=int, help=f"optimizer steps ({usual.steps})")
    train.add_argument("--matrix-rate", type=float, help=f"Muon's ({usual.matrix_rate})")
    train.add_argument("--other-rate", type=float, help=f"AdamW's ({usual.other_rate})")
    train.add_argument("--warmup", type=int, help=f"steps ({usual.warmup})")
    train.add_argument("--cooldown", type=float, help=f"share of the run ({usual.cooldown})")
    train.add_argument("--basics", type=int, help=f"tokens at first ({usual.basics})")
    train.add_argument("--shapes", type=_shapes, help="batches, as 30x256,20x384,11x704")
    train.add_argument("--seed", type=int, help=f"of all that is drawn ({usual.seed})")
    train.add_argument("--threads", type=int, default=2, help="CPU threads")
    train.add_argument("--init", type=Path, help="an exported model to start from")
    train.add_argument("--resume", action="store_true", help="go on by the checkpoint's recipe")
    train.add_argument("--eager", action="store_true", help="without torch.compile")
    train.add_argument("--float32", action="store_true", default=None, help="no bf16 at all")
    add_command(commands)
    add_native(commands)
    export = commands.add_parser("export", help="write a Hugging Face folder")
    export.add_argument("folder", type=Path, help="a training run")
    export.add_argument("output", type=Path)
    mean = commands.add_parser("mean", help="write the mean of exported models' weights")
    mean.add_argument("model", help=f"{', '.join(TASKS)}, or module:attribute")
    mean.add_argument("init", type=Path, nargs="+", help="exported models, two or more")
    mean.add_argument("output", type=Path)
    return parser


def _shapes(text: str) -> tuple[tuple[int, int], ...]:
    """Batches as (rows, length).

    Raises:
        ValueError: they are no numbers.
    """
    pairs = (one.split("x") for one in text.split(","))
    return tuple((int(rows), int(length)) for rows, length in pairs)


def _train(options: argparse.Namespace) -> None:
    names = [one.name for one in fields(TrainingRecipe)]
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    recipe = _resumed(options, given) if options.resume else TrainingRecipe(**given)
    check_threads(options.threads)
    import torch  # after the checks, which answer at once

    from reasoning.training.loop import train

    torch.set_num_threads(options.threads)
    train(
        recipe,
        options.folder,
        init=options.init,
        resume=options.resume,
        compile=not options.eager,
    )


def _resumed(options: argparse.Namespace, given: dict[str, Any]) -> TrainingRecipe:
    """The recipe of the run in a folder, perhaps lengthened.

    Raises:
        InvalidValue: another recipe is asked for.
    """
    from reasoning.training.export import read_checkpoint

    state = read_checkpoint(options.folder / "checkpoint.pt")
    recipe = TrainingRecipe.read(state["recipe"])
    if options.init is not None:
        raise InvalidValue("init: a run that goes on has its weights; leave it out")
    return recipe.lengthened(given)


def _export(options: argparse.Namespace) -> None:
    from reasoning.training.export import export

    export(options.folder / "checkpoint.pt", options.output)


def _mean(options: argparse.Namespace) -> None:
    from reasoning.training.export import average

    average(options.model, options.init, options.output)


COMMANDS = {
    "train": _train,
    "reinforce": run_command,
    "native": run_native,
    "export": _export,
    "mean": _mean,
}


if __name__ == "__main__":
    main()
