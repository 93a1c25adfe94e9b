"""The cards of the models of our own markup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reasoning.training.export import total
from reasoning.training.recipe import SHAPES

CARD = """\
---
license: apache-2.0
library_name: transformers
tags: [reasoning, parallel-reasoning, countdown, arithmetic]
---

# {name}

A Llama decoder of {parameters:.1f} million parameters ({layers} layers, hidden {hidden}, {heads}
heads, context {context:,}) that does Countdown and multi-step arithmetic on 0 to 999, in one
thread, by spawning and joining threads, or in threads that see what others wrote. It knows
nothing else and speaks no natural language: the package `parallel-reason` writes its prompts,
in the markup of `reasoning/language/markup.py`.

**Data.** Made by exact solvers, never stored: serial Countdown search with backtracking, APR
parents and children (arXiv 2504.15466), paths and summaries (ParaThinker, arXiv 2509.04475);
step-by-step arithmetic, alone, several in one thread, in branches (Multiverse, arXiv 2506.09991)
and by workers in lock-step (Group Think, arXiv 2505.11107; Hogwild!, arXiv 2504.06261), who also
list multiples and find shortest paths. Problems are held out by a fixed hash, one in 32.

**Recipe.** By the commands of `docs/training.md` with the settings of `recipe.json`, which has the
runs, last one first: {steps:,} steps, {tokens:.1f} million tokens on two CPU cores, from scratch. A
run with `rounds` learnt from the model's own runs of APR; `mean_of` is a mean of several weights.

**Measured** on held-out problems by the commands in `benchmarks/`:

{results}**Limits.** Countdown with numbers from 1 to 99 and targets from 10 to 100; searches leave
out intermediates above 999, which about one problem in thirty needs. Arithmetic with
intermediates from 0 to 999 and one to seven operations; graphs of three or four nodes. Beyond
that its output is not to be trusted; the package verifies every answer.
"""

MEASURED = {
    "reason-5m": {
        "Countdown": "countdown",
        "Five numbers": "five",
        "Arithmetic": "arithmetic",
        "Threads that share": "sharing",
    },
    "reason-1m": {"Countdown": "small"},
}


def card(recipe: Mapping[str, Any], parameters: int) -> str:
    """A model's card, from its recipe as `export` writes it."""
    name = str(recipe["model"])
    shape = SHAPES[name]
    results = "".join(
        f"{title}:\n\n<!-- results: {block} -->\n<!-- end -->\n\n"
        for title, block in MEASURED[name].items()
    )
    return CARD.format(
        name=name,
        parameters=parameters / 1e6,
        layers=shape.layers,
        hidden=shape.hidden,
        heads=shape.heads,
        context=shape.context,
        steps=total(recipe, "steps_run"),
        tokens=total(recipe, "tokens") / 1e6,
        results=results,
    )
