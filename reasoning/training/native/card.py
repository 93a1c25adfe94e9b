"""The card of a native model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reasoning.training.export import total

CARD = """\
---
license: apache-2.0
library_name: transformers
tags: [reasoning, parallel-reasoning]
---

# {name}

A Llama decoder of {parameters:.1f} million parameters with a byte-level tokenizer, digits one by
one, and a chat template. {forks}

It knows one small world: people who gain and lose things, expressions with names, and numbers to
be checked by a divisor, as `reasoning/training/native/problems.py` makes them. Beyond that its
output is not to be trusted.

**Recipe.** `python -m reasoning.training native FOLDER`, as `recipe.json` says: {steps:,} steps,
{tokens:.1f} million tokens, the common base included. Chains of operations are held out by a fixed
hash, one in 16, and none of them is worked out on the way.

**Measured** by `benchmarks/native.py` on 200 held-out problems, with the figures in
`benchmarks/results/native.json`.
"""
FORKS = """It forks and joins by itself, in the format of
ThreadWeaver (arXiv 2512.07843) or Multiverse (arXiv 2506.09991), as the prompt has it; problems
that don't decompose stay serial."""
SERIAL = "It thinks in one thread: the twin to which `native-2m` is compared."


def card(recipe: Mapping[str, Any], parameters: int) -> str:
    """A model's card, from its recipe as `export` writes it."""
    name = str(recipe["model"])
    return CARD.format(
        name=name,
        parameters=parameters / 1e6,
        forks=SERIAL if name.endswith("-serial") else FORKS,
        steps=total(recipe, "steps_run"),
        tokens=total(recipe, "tokens") / 1e6,
    )
