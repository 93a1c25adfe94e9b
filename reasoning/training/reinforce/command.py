"""``python -m reasoning.training reinforce``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from orchestrator.errors import InvalidValue
from reasoning.models.catalog import find
from reasoning.training.recipe import SHAPES
from reasoning.training.reinforce.recipe import ReinforceRecipe

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
    "warmup": "steps over which it rises",
    "batches": "optimizer steps a round",
    "clip": "how far the importance ratio may leave 1",
    "certain": "surprise below which threads are learned from by chance",
    "anchor": "weight of the loss on demonstrations",
    "threads": "CPU threads that learn, beside the engine's one",
}


def add_command(commands: Any) -> None:
    """Add the command to those of a parser."""
    parser = commands.add_parser("reinforce", help="learn from the model's own runs of apr")
    parser.add_argument("model", choices=sorted(SHAPES))
    parser.add_argument("folder", type=Path, help="where checkpoint.pt, log.jsonl and model go")
    parser.add_argument("--init", type=Path, help="an exported model; by default the shipped one")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    recipe = ReinforceRecipe()
    for name, told in HELP.items():
        usual = getattr(recipe, name)
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=type(usual), default=usual, help=told)


def run_command(options: argparse.Namespace) -> None:
    """Do what was asked.

    Raises:
        InvalidValue: as `reinforce`.
    """
    recipe = ReinforceRecipe(model=options.model, **{name: getattr(options, name) for name in HELP})
    from reasoning.training.reinforce.loop import reinforce  # after the checks, which are quick

    try:
        init = options.init or find(options.model)
        reinforce(recipe, options.folder, init=init, resume=options.resume)
    except KeyboardInterrupt:
        told = "stopped; --resume goes on after the last round that was done"
        raise InvalidValue(told) from None
