"""What the native models are taught."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from reasoning.training.encoding import TrainingSequence
from reasoning.training.native.card import card
from reasoning.training.native.formats import (
    drill,
    parallel_drill,
    parallel_example,
    serial_example,
)
from reasoning.training.native.problems import TaughtProblem, alone, draw_problem
from reasoning.training.native.tokens import (
    CHAT_TEMPLATE,
    END,
    END_OF_TEXT,
    encode,
    tokenizer,
)
from reasoning.training.recipe import SHAPES, TrainingTask

Write = Callable[[TaughtProblem, random.Random], TrainingSequence]
Drill = Callable[[random.Random], TrainingSequence]


DRILLS, EARLY_DRILLS = 0.4, 0.85
"""The share of tokens that practise one thing alone, later and among the basics.  Most arithmetic
is learnt from them, and where to look."""


def stream(
    rng: random.Random, rows: Sequence[int], basics: int, *, write: Write, drill: Drill
) -> Iterator[TrainingSequence]:
    """Endless examples that fit into the longest row; at first drills and problems of one part."""
    drawn = drilled = 0
    while True:
        early = drawn < basics
        if drills := drilled <= (EARLY_DRILLS if early else DRILLS) * drawn:
            example = drill(rng)
        elif early:
            example = write(alone(rng, held_out=False), rng)
        else:
            example = write(draw_problem(rng, held_out=False), rng)
        if (size := len(example.tokens)) <= rows[-1]:
            drawn += size
            drilled += drills * size
            yield example


def write_tokenizer(folder: Path) -> None:
    """Write the tokenizer and its chat template."""
    tokenizer().save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": END_OF_TEXT,
        "model_max_length": SHAPES["native-2m"].context,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def _task(write: Write, drill: Drill) -> TrainingTask:
    [end], [pad] = encode(END), encode(END_OF_TEXT)
    return TrainingTask(
        shape=SHAPES["native-2m"],
        stream=partial(stream, write=write, drill=drill),
        pad=pad,
        special={"eos_token_id": end, "pad_token_id": pad},
        write_tokenizer=write_tokenizer,
        card=card,
    )


PARALLEL = _task(parallel_example, parallel_drill)
SERIAL = _task(serial_example, drill)
