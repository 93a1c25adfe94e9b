"""What native models are taught: right solutions, published forms, and the engine's own layout."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import cache

import pytest
import torch

from reasoning.language.native.catalog import family
from reasoning.language.native.placing import BranchEnd, ForkPlace
from reasoning.training.encoding import TrainingSequence
from reasoning.training.native import formats, problems
from reasoning.training.native.problems import Chain, ChainStep, TaughtProblem
from reasoning.training.native.task import stream
from reasoning.training.native.tokens import encode, tokenizer
from reasoning.values.context import Context, Segment
from reasoning.values.layout import flatten

Draw = Callable[..., TaughtProblem]

kinds = pytest.mark.parametrize(
    "kind", [*problems.APART, *problems.SERIAL], ids=lambda kind: kind.__name__
)


@cache
def drawn(kind: Draw, held_out: bool = False) -> list[TaughtProblem]:
    rng = random.Random(kind.__name__)
    return [kind(rng, held_out=held_out) for _ in range(60)]


def decoded(tokens: list[int]) -> str:
    return str(tokenizer().decode(tokens, skip_special_tokens=False))


# ---- problems ------------------------------------------------------------------------------


@kinds
def test_nothing_that_is_held_out_is_worked_out_on_the_way(kind: Draw) -> None:
    parts = [part for one in drawn(kind) for item in one.items for part in item.parts]
    assert len(parts) > 60
    assert [part.key for part in parts if part.held_out] == []


@kinds
def test_all_items_of_a_measured_problem_are_held_out(kind: Draw) -> None:
    assert all(item.held_out for one in drawn(kind, True) for item in one.items)


@kinds
def test_each_line_of_a_solution_is_an_equation_that_holds(kind: Draw) -> None:
    for problem in drawn(kind):
        written = "\n".join((*problem.parts, problem.conclusion))
        lines = re.findall(r"\d+(?:[-+*]\d+)?(?:=[\d+*]+)+", written)
        assert lines
        for line in lines:
            assert len({eval(side) for side in line.split("=")}) == 1, line


@kinds
def test_the_answer_is_what_the_items_give(kind: Draw) -> None:
    for problem in drawn(kind):
        values = {
            label: item.values[-1]
            for label, item in zip(problem.labels or ("",), problem.items, strict=True)
            if isinstance(item, Chain)
        }
        if not values:
            continue
        most = max(values, key=lambda label: values[label])
        given = ", ".join(map(str, values.values()))
        assert problem.answer in {str(sum(values.values())), most, given}


def test_parts_of_a_chain_are_all_that_is_worked_out_on_the_way() -> None:
    chain = Chain(3, (ChainStep("*", 14), ChainStep("+", 6), ChainStep("-", 9)))
    assert chain.work == "3*14=30+12=42,42+6=48,48-9=39"
    assert {part.key for part in chain.parts} == {
        *("3*14", "3*14+6", "3*14+6-9"),
        *("42+6", "42+6-9", "48-9"),
    }


# ---- tokens --------------------------------------------------------------------------------


def test_digits_and_control_strings_are_tokens_of_their_own() -> None:
    assert [decoded([one]) for one in encode("1204")] == ["1", "2", "0", "4"]
    names = ("think", "Think", "Parallel", "Outlines", "Outline", "Thread", "Goal", "Path")
    control = [f"<{mark}{name}>" for name in (*names, "Conclusion") for mark in ("", "/")]
    assert all(len(encode(one)) == 1 for one in (*control, "\n"))


# ---- forms ---------------------------------------------------------------------------------

PROBLEM = TaughtProblem(
    question="A=3*14. B=7+6. Find A+B.",
    labels=("A", "B"),
    parts=("A: 3*14=30+12=42.", "B: 7+6=13."),
    conclusion="42+13=50+5=55",
    answer="55",
    items=(),
)
THREADWEAVER = (
    "<|im_start|>user\nA=3*14. B=7+6. Find A+B. Let's think step by step and output the final "
    "answer within \\boxed{}.<|im_end|>\n<|im_start|>assistant\n<think>\n<Parallel>\n<Outlines>\n"
    "<Outline>1: A</Outline>\n<Outline>2: B</Outline>\n</Outlines>\n"
    "<Thread>\n1: A: 3*14=30+12=42.\n</Thread><Thread>\n2: B: 7+6=13.\n</Thread>\n</Parallel>\n"
    "42+13=50+5=55\n</think>\n\nThe answer is \\boxed{55}.<|im_end|>"
)
MULTIVERSE = (
    "<|im_start|>user\nA=3*14. B=7+6. Find A+B. Think step by step and in parallel before "
    "answering.<|im_end|>\n<|im_start|>assistant\n<Think>\nLet's think in parallel.\n<Parallel>\n"
    "<Goal>\n<Outline>\n1: A\n</Outline>\n<Outline>\n2: B\n</Outline>\n</Goal>\n"
    "<Path>\n1: A: 3*14=30+12=42.\n</Path>\n<Path>\n2: B: 7+6=13.\n</Path>\n"
    "<Conclusion>\n42+13=50+5=55\n</Conclusion>\n</Parallel>\n</Think>\n\n"
    "Answer: \\boxed{55}<|im_end|>"
)


def test_a_trie_of_threads_is_the_published_text_and_each_thread_alone() -> None:
    trie = formats.threadweaver(PROBLEM)
    joined = len(encode(THREADWEAVER))
    assert trie.tokens[:joined] == encode(THREADWEAVER)
    assert decoded(trie.tokens[joined:]) == "2: B: 7+6=13.\n</Thread>"
    assert trie.mask is not None
    seen = [token for token, sees in zip(trie.tokens, trie.mask[-1], strict=True) if sees]
    before, _, _ = THREADWEAVER.partition("1: A: ")
    assert decoded(seen) == f"{before}2: B: 7+6=13.\n</Thread>"
    assert trie.positions[-1] == len(seen) - 1  # the depth in the trie


@pytest.mark.parametrize("variant", ["trained", "engine", "text"])
def test_a_goal_and_its_paths_are_the_published_text(variant: str) -> None:
    assert formats.multiverse(PROBLEM, variant).tokens == encode(MULTIVERSE)


@pytest.mark.parametrize("variant", ["trained", "engine"])
def test_paths_lie_as_the_strategy_places_them(variant: str) -> None:
    """What is trained, beside a run of the family's description: mask and positions are equal."""
    before, after = MULTIVERSE.split("</Goal>\n")
    *paths, conclusion = re.split(r"(?<=</Path>\n)", after)
    given = segment(Context(), f"{before}</Goal>", 0)
    placement = family("multiverse").placement(variant)  # type: ignore[arg-type]
    place = ForkPlace(base=Context().after(given), lead=encode("\n"), placement=placement)
    lead = place.start.entries[-1].segment
    lead.steps = [len(given)]
    clock = len(given) + 1
    branches = []
    for path in paths:
        branches.append(segment(place.start, path, clock))
        clock += len(branches[-1])
    ends = [BranchEnd(place.start.after(branch), branch.tokens, tail=1) for branch in branches]
    last = segment(place.joined(ends), conclusion, clock)
    flat = flatten([given, lead, *branches, last])
    taught = formats.multiverse(PROBLEM, variant)
    assert flat.tokens.tolist() == taught.tokens
    assert flat.positions.tolist() == taught.positions
    assert taught.mask is not None
    assert torch.equal(flat.mask, taught.mask)


def segment(context: Context, text: str, clock: int) -> Segment:
    """A written segment."""
    written = Segment(context, encode(text))
    written.steps = list(range(clock, clock + len(written)))
    return written


def test_what_is_forced_and_what_follows_another_branch_has_no_loss() -> None:
    weights: dict[str, set[float]] = {}
    for taught in (formats.threadweaver(PROBLEM), formats.multiverse(PROBLEM, "trained")):
        weights |= by_token(taught)
    assert weights["<Path>"] == weights["<Conclusion>"] == {0.0}
    assert min(weights["</Outlines>"] | weights["</Goal>"] | weights["</Thread>"]) > 0
    serial = formats.serial(PROBLEM, "serial")
    assert serial.weights[: len(encode(formats.prompt(PROBLEM.question, "serial")))] == [0.0] * (
        len(encode(formats.prompt(PROBLEM.question, "serial")))
    )


def by_token(taught: TrainingSequence) -> dict[str, set[float]]:
    found: dict[str, set[float]] = {}
    for token, weight in zip(taught.tokens, taught.weights, strict=True):
        found.setdefault(decoded([token]), set()).add(weight)
    return found


def test_serial_problems_never_fork_and_the_twin_never_does() -> None:
    rng = random.Random(3)
    for decomposes in (True, False):
        for _ in range(30):
            problem = problems.draw_problem(rng, held_out=False, decomposes=decomposes)
            text = decoded(formats.serial_example(problem, rng).tokens)
            assert "<Parallel>" not in text
            if not decomposes:
                assert "<Parallel>" not in decoded(formats.parallel_example(problem, rng).tokens)


def test_a_stream_fits_its_rows_and_follows_from_its_seed() -> None:
    streams = [
        stream(
            random.Random(5),
            (128, 512),
            300,
            write=formats.parallel_example,
            drill=formats.parallel_drill,
        )
        for _ in "ab"
    ]
    for _ in range(40):
        one, other = map(next, streams)
        assert one.tokens == other.tokens
        assert len(one.tokens) == len(one.positions) == len(one.weights) <= 512
