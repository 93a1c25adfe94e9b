"""``python -m reasoning.training reinforce``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from orchestrator.errors import InvalidValue
from reasoning.models.catalog import find
from reasoning.training.reinforce.recipe import MODELS, ReinforceRecipe

HELP = {
    "seed": "of problems, runs and demonstrations",
    "rounds": "in all; with --resume, too",
    "problems": "of one round",
    "runs": "of each problem",
    "intermediate": "share of problems with an intermediate result among four numbers",
    "fives": "share of problems of five numbers",
    "budget": "children of a thread, four numbers",
    "five_budget": "children of a thread, five numbers",
    "context": "tokens of a thread",
    "span_bonus": "most that a short critical path adds to a reward of 1",
    "rate": "AdamW's learning rate",
    "warmup": "steps over which it rises; it falls to zero at the last round",
    "batches": "optimizer steps of a pass over a round",
    "epochs": "passes over a round",
    "clip": "how far the importance ratio may leave 1",
    "certain": "surprise below which threads are learned from by chance",
    "anchor": "weight of the loss on demonstrations",
    "keep": "rounds after which the exported model is kept beside the latest",
    "threads": "CPU threads that learn, beside the engine's one",
}


def add_command(commands: Any) -> None:
    """Add the command to those of a parser."""
    parser = commands.add_parser("reinforce", help="learn from the model's own runs of apr")
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("folder", type=Path, help="where checkpoint.pt, log.jsonl and model go")
    parser.add_argument("--init", type=Path, help="an exported model; by default the shipped one")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    usual = ReinforceRecipe()
    for name, told in HELP.items():
        value = getattr(usual, name)
        parser.add_argument(
            "--" + name.replace("_", "-"), type=type(value), help=f"{told}; by default {value}"
        )


def run_command(options: argparse.Namespace) -> None:
    """Do what was asked.

    Raises:
        InvalidValue: as `reinforce` and `go_on`; an option is not as the run to go on with has it.
    """
    given = {name: value for name in HELP if (value := getattr(options, name)) is not None}
    recipe = ReinforceRecipe(model=options.model, **given)
    from reasoning.training.reinforce.loop import go_on, reinforce  # after what is quick to check

    if options.resume:
        _check_options(options, given)
        go_on(options.folder, rounds=given.get("rounds"))
    else:
        reinforce(recipe, options.folder, init=options.init or find(options.model))


def _check_options(options: argparse.Namespace, given: dict[str, Any]) -> None:
    """Refuse what differs from the run that is gone on with."""
    from reasoning.training.reinforce.loop import recipe_of

    before = recipe_of(options.folder)
    if options.init is not None:
        raise InvalidValue("init: the run goes on from its checkpoint; leave it out")
    for name, value in {"model": options.model, **given}.items():
        if name != "rounds" and value != getattr(before, name):
            raise InvalidValue(
                f"{name}: the run has {getattr(before, name)}; leave it out, or start another run"
            )
