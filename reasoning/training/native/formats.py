"""Worked problems as training sequences, in the published formats of parallel reasoners.

ThreadWeaver (arXiv 2512.07843): a token trie of the joined text and of each thread alone, with an
ancestor-only mask, and depth in the trie as position.  Multiverse (arXiv 2506.09991): one sequence
in which paths see the goal and themselves, overlap in position, and are all seen by the conclusion.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from reasoning.training.encoding import TrainingSequence
from reasoning.training.native.problems import (
    APART,
    LETTERS,
    NAMES,
    TaughtProblem,
    draw_fact,
)
from reasoning.training.native.tokens import SUFFIXES, encode

JOIN_WEIGHT = 4.0
"""Of what the parts came to and what follows, and of the words that decide whether there is a fork.

Most wrong answers have right parts, of which one is then told wrong.
"""


class Block(NamedTuple):
    """Tokens of a `Sheet`: where they lie, what they see, and the next position behind them."""

    seen: tuple[range, ...]
    end: int


class Sheet:
    """A training sequence, written in blocks that see other blocks."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._positions: list[int] = []
        self._weights: list[float] = []
        self._blocks: list[tuple[range, tuple[range, ...]]] = []

    def write(
        self, *pieces: tuple[str, float], after: Sequence[Block] = (), at: int | None = None
    ) -> Block:
        """Add a block of (text, loss weight) that sees ``after``, and what they see.

        Its first token has a loss only where it stands right behind what it follows.

        Args:
            at: The position of its first token; by default the next one behind all of ``after``.
        """
        first = len(self._tokens)
        for text, weight in pieces:
            ids = encode(text)
            self._tokens += ids
            self._weights += [weight] * len(ids)
        own = range(first, len(self._tokens))
        seen = tuple(dict.fromkeys(one for block in after for one in block.seen))
        if not (len(after) == 1 and seen[-1].stop == first):
            self._weights[first] = 0.0
        start = max((block.end for block in after), default=0) if at is None else at
        self._positions += range(start, start + len(own))
        self._blocks.append((own, seen))
        return Block((*seen, own), start + len(own))

    def sequence(self) -> TrainingSequence:
        """All that was written."""
        size = len(self._tokens)
        mask = torch.zeros(size, size, dtype=torch.bool)
        for own, seen in self._blocks:
            rows = slice(own.start, own.stop)
            for one in seen:
                mask[rows, one.start : one.stop] = True
            mask[rows, rows] = torch.ones(len(own), len(own), dtype=torch.bool).tril()
        return TrainingSequence(self._tokens, self._positions, [0] * size, self._weights, mask)


def prompt(question: str, mode: str) -> str:
    """What a model is given: the question with a suffix of `SUFFIXES`, in the chat template."""
    user = f"{question} {SUFFIXES[mode]}"
    return f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"


def serial(problem: TaughtProblem, mode: str) -> TrainingSequence:
    """A problem that is worked out in one thread."""
    sheet = Sheet()
    given = sheet.write((prompt(problem.question, mode), 0.0))
    think, end = _wrapping(problem, mode)
    work = "".join(f"{part}\n" for part in problem.parts)
    concluded = f"{problem.conclusion}\n{end}" if problem.decomposes else end
    weight = JOIN_WEIGHT if problem.decomposes else 1.0
    sheet.write((think, 1.0), (work, 1.0), (concluded, weight), after=[given])
    return sheet.sequence()


def _wrapping(problem: TaughtProblem, mode: str) -> tuple[str, str]:
    """What opens the thoughts, and what closes them and answers."""
    if mode == "threadweaver":
        answer = f"The answer is \\boxed{{{problem.answer}}}."
        return "<think>\n", f"</think>\n\n{answer}<|im_end|>"
    return "<Think>\n", f"</Think>\n\nAnswer: \\boxed{{{problem.answer}}}<|im_end|>"


def threadweaver(problem: TaughtProblem) -> TrainingSequence:
    """Outlines, threads and their join, as a trie: the joined text first, then the other threads.

    A thread that is joined sees those before it, as it will; one of its own does not.
    """
    sheet = Sheet()
    given = sheet.write((prompt(problem.question, "threadweaver"), 0.0))
    think, end = _wrapping(problem, "threadweaver")
    plan = _planned(problem, "threadweaver")
    planned = sheet.write((think, 1.0), (plan, JOIN_WEIGHT), after=[given])
    fork = sheet.write(("\n<Thread>\n", 0.5), after=[planned])
    threads = [f"{n}: {part}\n</Thread>" for n, part in enumerate(problem.parts, start=1)]
    rest = f"\n</Parallel>\n{problem.conclusion}\n{end}"
    text, *others = threads
    joined = "".join(f"<Thread>\n{thread}" for thread in others)
    sheet.write((text, 1.0), (joined, 0.5), (rest, JOIN_WEIGHT), after=[fork])
    for thread in threads[1:]:
        sheet.write((thread, 1.0), after=[fork])
    return sheet.sequence()


def multiverse(problem: TaughtProblem, variant: str) -> TrainingSequence:
    """A goal, its paths and a conclusion.

    Args:
        variant: Where paths and conclusion stand: as ``trained`` by the authors (paths and the
            line break before them right behind the goal, the conclusion right behind the longest
            path), as in their ``engine`` (line breaks have positions of their own), or as ``text``
            that is joined and read again.
    """
    sheet = Sheet()
    given = sheet.write((prompt(problem.question, "multiverse"), 0.0))
    think, end = _wrapping(problem, "multiverse")
    plan = _planned(problem, "multiverse")
    goal = sheet.write((think, 1.0), (plan, JOIN_WEIGHT), after=[given])
    paths = [f": {part}\n</Path>\n" for part in problem.parts]
    concluded = f"{problem.conclusion}\n</Conclusion>\n</Parallel>\n{end}"
    heads = [f"<Path>\n{n}" for n in range(1, len(paths) + 1)]
    conclusion = (("<Conclusion>\n", 0.0), (concluded, JOIN_WEIGHT))
    if variant == "text":
        pieces = [("\n", 0.5)]
        for head, path in zip(heads, paths, strict=True):
            pieces += [(head, 0.5), (path, 1.0)]
        sheet.write(*pieces, *conclusion, after=[goal])
        return sheet.sequence()
    early = variant == "trained"
    led = sheet.write(("\n", 0.5), after=[goal])
    ends = []
    for head, path in zip(heads, paths, strict=True):
        at = goal.end if early else None
        ends.append(sheet.write((head, 0.0), (path, 1.0), after=[led], at=at))
    # The line break behind the longest path shares its position with the conclusion.
    at = max(one.end for one in ends) - early
    sheet.write(*conclusion, after=ends, at=at)
    return sheet.sequence()


def _planned(problem: TaughtProblem, family: str) -> str:
    """The start of a fork, with an outline for each part."""
    numbered = list(enumerate(problem.labels, start=1))
    if family == "threadweaver":
        outlines = "".join(f"<Outline>{n}: {label}</Outline>\n" for n, label in numbered)
        return f"<Parallel>\n<Outlines>\n{outlines}</Outlines>"
    outlines = "".join(f"<Outline>\n{n}: {label}\n</Outline>\n" for n, label in numbered)
    return f"Let's think in parallel.\n<Parallel>\n<Goal>\n{outlines}</Goal>"


def drill(rng: random.Random) -> TrainingSequence:
    """Practice of one thing alone: operations, a part of a question, an answer, or repeating."""
    return rng.choices((facts, lookups, answers, echo), (1, 2, 3, 1))[0](rng)


def parallel_drill(rng: random.Random) -> TrainingSequence:
    """Practice as in `drill`, or of how a question is divided, or of what its threads came to."""
    return rng.choices((drill, plans, joins), (5, 2, 3))[0](rng)


def facts(rng: random.Random) -> TrainingSequence:
    """A dozen operations; what stands before the first ``=`` of each has no loss."""
    sheet = Sheet()
    pieces: list[tuple[str, float]] = []
    for _ in range(12):
        asked, equals, result = draw_fact(rng).partition("=")
        pieces += [(asked + equals, 0.0), (f"{result},", 1.0)]
    sheet.write(*pieces)
    return sheet.sequence()


def lookups(rng: random.Random) -> TrainingSequence:
    """The parts of a question, each as it stands there, not worked out.

    They come in their order, or in any other, where which one comes has no loss.
    """
    problem = rng.choice(APART)(rng, held_out=False)
    found = list(zip(problem.labels, problem.items, strict=False))
    if any_order := rng.random() < 0.5:
        rng.shuffle(found)
    sheet = Sheet()
    pieces: list[tuple[str, float]] = [(f"{problem.question}\n", 0.0)]
    for label, item in found:
        pieces += [(label, 0.0 if any_order else 1.0), (f": {item.key}.\n", 1.0)]
    sheet.write(*pieces)
    return sheet.sequence()


def plans(rng: random.Random) -> TrainingSequence:
    """A question and how it is divided, in one of the formats."""
    problem = rng.choice(APART)(rng, held_out=False)
    family = rng.choice(("threadweaver", "multiverse"))
    sheet = Sheet()
    given = sheet.write((prompt(problem.question, family), 0.0))
    sheet.write(
        (_wrapping(problem, family)[0], 0.0), (_planned(problem, family), 1.0), after=[given]
    )
    return sheet.sequence()


def joins(rng: random.Random) -> TrainingSequence:
    """A problem in threads that have their last steps alone, which have no loss."""
    problem = rng.choice(APART)(rng, held_out=False)
    short = tuple(_last_steps(part, rng.randint(1, 3)) for part in problem.parts)
    family = rng.choice(("threadweaver", "multiverse"))
    example = threaded(replace(problem, parts=short), family, rng)
    return example._replace(weights=[one * (one == JOIN_WEIGHT) for one in example.weights])


def _last_steps(part: str, count: int) -> str:
    """A worked part with so many of its steps."""
    label, _, work = part.partition(": ")
    return f"{label}: {','.join(work.split(',')[-count:])}"


def answers(rng: random.Random) -> TrainingSequence:
    """What the parts of a question came to, and the answer to it."""
    problem = rng.choice(APART)(rng, held_out=False)
    family = rng.choice(("threadweaver", "multiverse"))
    sheet = Sheet()
    pieces = [(f"{problem.question}\n", 0.0), (f"{problem.conclusion}\n", 0.5)]
    sheet.write(*pieces, (_wrapping(problem, family)[1], 1.0))
    return sheet.sequence()


def echo(rng: random.Random) -> TrainingSequence:
    """Names, marks and digits without a sense, and the same again."""
    names = (*NAMES, *LETTERS, *"0123456789+-*=,.:")
    text = "".join(rng.choice(names) for _ in range(rng.randint(15, 45)))
    sheet = Sheet()
    sheet.write((f"{text}\n", 0.0), (f"{text}\n", 1.0))
    return sheet.sequence()


# ---- drawing them --------------------------------------------------------------------------


def parallel_example(problem: TaughtProblem, rng: random.Random) -> TrainingSequence:
    """A problem in one of the formats: in threads where it decomposes, else in one."""
    mode = rng.choices(("threadweaver", "multiverse", "serial"), (0.42, 0.5, 0.08))[0]
    if mode == "serial" or not problem.decomposes:
        return serial(problem, mode)
    return threaded(problem, mode, rng)


def threaded(problem: TaughtProblem, family: str, rng: random.Random) -> TrainingSequence:
    """A problem in threads of one of the formats."""
    if family == "threadweaver":
        return threadweaver(problem)
    return multiverse(problem, rng.choices(("trained", "engine", "text"), (0.45, 0.3, 0.25))[0])


def serial_example(problem: TaughtProblem, rng: random.Random) -> TrainingSequence:
    """A problem in one thread."""
    return serial(problem, rng.choice(("threadweaver", "serial")))
