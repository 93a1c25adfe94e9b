"""Training demonstrations: unseen problems stay unseen, and what is shown is right."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasoning.language import markup
from reasoning.problems import Arithmetic, Countdown, countdown
from reasoning.problems.expression import apply
from reasoning.training import demonstrations
from reasoning.training.demonstrations import WIDTH, Demonstration
from reasoning.training.encoding import TrainingSequence, encode
from reasoning.training.mixture import MIXTURE, stream

Draw = Callable[[random.Random], Demonstration]

SEEDS = st.integers(0, 10**6)
ROWS = (512, 2048)
PROMPT = re.compile(r"<bos> <(?:serial|apr)>(?: (?P<budget>\d+) :)? (?P<problem>[\d ]+=> \d+) :")
CHILD = re.compile(r"(\d+) : (\d+) ([-+*/]) (\d+) = (\d+) <spawn> ([\d ]+=> \d+) ;")

ALONE = [kind for kind in MIXTURE if kind.__module__ == demonstrations.__name__]
kinds = pytest.mark.parametrize("kind", ALONE, ids=lambda kind: kind.__name__)
parents = pytest.mark.parametrize(
    "kind", [demonstrations.drawn_parent, demonstrations.drawn_parent_five]
)


@cache
def drawn(kind: Draw) -> list[Demonstration]:
    rng = random.Random(kind.__name__)
    return [kind(rng) for _ in range(600)]


def prompt(demonstration: Demonstration) -> str:
    return demonstration.head[0].text


def text(demonstration: Demonstration) -> str:
    """All that is trained on or shown, without the prompt."""
    blocks = [pieces for _, pieces in demonstration.body]
    return " ".join(piece.text for piece in itertools.chain(demonstration.head[1:], *blocks))


def stated(problem: str) -> Countdown:
    numbers, target = problem.split("=>")
    return Countdown(numbers=tuple(map(int, numbers.split())), target=int(target))


def budget(demonstration: Demonstration) -> int:
    match = PROMPT.fullmatch(prompt(demonstration))
    assert match is not None
    return int(match["budget"])


def posed(demonstration: Demonstration) -> Arithmetic | Countdown:
    """The problem of the prompt."""
    words = prompt(demonstration)
    if match := PROMPT.fullmatch(words):
        return stated(match["problem"])
    return Arithmetic(expression=words.removeprefix("<bos> <calc> ").removesuffix(" :"))


def stated_in(demonstration: Demonstration) -> Countdown:
    problem = posed(demonstration)
    assert isinstance(problem, Countdown)
    return problem


# ---- what every kind promises ------------------------------------------------------------------


@kinds
def test_no_problem_that_is_held_out_is_ever_posed(kind: Draw) -> None:
    problems = [posed(demonstration) for demonstration in drawn(kind)]
    unseen = [
        problem
        for problem in problems
        if isinstance(problem, Arithmetic) or len(problem.numbers) > 3
    ]
    assert [problem for problem in unseen if problem.held_out] == []
    assert len(unseen) == (0 if kind is demonstrations.drawn_leaf else len(problems))


FOUR = re.compile(r"(\d+(?: \d+){3}) => (\d+)")
EXPRESSION = re.compile(r"[\d+*/() -]+")


@parents
def test_no_child_is_asked_a_problem_that_is_held_out(kind: Draw) -> None:
    shown = [f"{prompt(one)} {text(one)}" for one in drawn(kind)]
    found = [state for one in shown for state in FOUR.findall(one)]
    states = [stated(f"{numbers} => {target}") for numbers, target in found]
    assert len(states) > 500
    assert [one for one in states if one.held_out] == []


def test_no_expression_on_the_way_is_held_out() -> None:
    on_the_way = [
        part.strip()
        for demonstration in drawn(demonstrations.drawn_calc)
        for part in re.split(r"[:;]|<\w+>", text(demonstration))
        if EXPRESSION.fullmatch(part.strip()) and len(re.findall(r"[-+*/]", part)) > 2
    ]
    assert len(on_the_way) > 500
    assert [one for one in on_the_way if Arithmetic(expression=one).held_out] == []


@kinds
def test_every_token_is_in_the_vocabulary(kind: Draw) -> None:
    for demonstration in drawn(kind):
        words = f"{prompt(demonstration)} {text(demonstration)}".split()
        assert set(words) <= set(markup.VOCABULARY)


@kinds
def test_every_answer_passes_the_strict_verifier(kind: Draw) -> None:
    endings: Counter[str] = Counter()
    for demonstration in drawn(kind):
        written = text(demonstration)
        ending = re.search(r"(<answer>|<none>) ?(.*) <eos>$", written)
        endings[ending[1] if ending else "cut"] += 1
        if ending and ending[1] == markup.ANSWER:
            verdict = posed(demonstration).verify(ending[2])
            assert verdict.ok, verdict.reason
        assert written.count(markup.EOS) == (ending is not None)
    assert endings[markup.ANSWER] > 50
    assert endings["cut"] == 0 or kind is demonstrations.drawn_serial_five


@kinds
def test_what_the_model_is_given_has_no_weight_and_what_it_writes_has(
    kind: Draw,
) -> None:
    for demonstration in drawn(kind):
        assert demonstration.head[0].weight == 0
        given_now = False
        for piece in itertools.chain.from_iterable(pieces for _, pieces in demonstration.body):
            assert (piece.weight == 0) is given_now
            given_now = piece.text == markup.JOIN or (given_now and piece.text != markup.JOINED)


def test_each_line_of_arithmetic_keeps_the_value() -> None:
    for demonstration in drawn(demonstrations.drawn_calc)[:50]:
        lines, answer = text(demonstration).removesuffix(" <eos>").split(" <answer> ")
        for part in lines.split(" ; "):
            *rewritten, operation = part.split(" : ")
            for expression in rewritten:
                assert Arithmetic(expression=expression).verify(answer).ok
            left, sign, right, _, result = operation.split()
            assert apply(int(left), sign, int(right)) == int(result)


# ---- spawning ----------------------------------------------------------------------------------


@parents
def test_a_parent_first_copies_its_numbers_at_full_weight(kind: Draw) -> None:
    for demonstration in drawn(kind):
        first = demonstration.body[0][1][0]
        assert first.text == f"{' '.join(map(str, stated_in(demonstration).numbers))} ;"
        assert first.weight == 1


@parents
def test_no_two_children_get_the_same_message(kind: Draw) -> None:
    for demonstration in drawn(kind):
        states = [stated(state) for *_, state in CHILD.findall(text(demonstration))]
        assert len({tuple(sorted(state.numbers)) for state in states}) == len(states)
        assert {state.target for state in states} == {stated_in(demonstration).target}


@parents
def test_children_stay_within_the_budget_and_rounds_within_the_width(
    kind: Draw,
) -> None:
    for demonstration in drawn(kind):
        assert budget(demonstration) in markup.BUDGETS
        rounds = [len(CHILD.findall(part)) for part in text(demonstration).split("</join>")[:-1]]
        assert 1 <= sum(rounds) <= budget(demonstration)
        assert all(count == WIDTH for count in rounds[:-1])
        assert 1 <= rounds[-1] <= WIDTH
        indices = [int(index) for index, *_ in CHILD.findall(text(demonstration))]
        assert indices == list(range(1, len(indices) + 1))
        assert text(demonstration).count(markup.SPAWN) == len(indices)


@parents
def test_each_child_is_one_operation_away(kind: Draw) -> None:
    for demonstration in drawn(kind):
        numbers = Counter(stated_in(demonstration).numbers)
        for _, left, sign, right, result, state in CHILD.findall(text(demonstration)):
            used = Counter([int(left), int(right)])
            assert used <= numbers
            assert apply(int(left), sign, int(right)) == int(result)
            assert Counter(stated(state).numbers) == numbers - used + Counter([int(result)])


@parents
def test_the_first_report_is_the_answer_and_every_report_is_right(kind: Draw) -> None:
    for demonstration in drawn(kind):
        written, problem = text(demonstration), stated_in(demonstration)
        joined = " ".join(re.findall(r"<join> (.*?)</join>", written))
        reports = re.findall(r"\d+ : (.*?) ;", joined)
        assert all(problem.verify(one).ok for one in reports)
        ending = f"<answer> {reports[0]} <eos>" if reports else "<none> <eos>"
        assert written.endswith(ending)


# ---- the search of three numbers ---------------------------------------------------------------


def reachable(numbers: tuple[int, ...]) -> set[int]:
    """What the numbers can make with every intermediate in the vocabulary."""
    if len(numbers) == 1:
        return {numbers[0]}
    states = [state for step, state in countdown.expand(numbers) if step.result <= markup.LARGEST]
    return set().union(*map(reachable, states))


@given(st.tuples(*[st.one_of(st.integers(0, 12), st.integers(1, 99), st.integers(0, 999))] * 3))
def test_the_search_of_three_numbers_is_exact(numbers: tuple[int, ...]) -> None:
    possible = reachable(numbers)
    for target in countdown.TARGET_RANGE:
        _, found = demonstrations.leaf_search(numbers, target)
        assert (found is not None) is (target in possible)
        if found is not None:
            answer = ", ".join(map(str, found))
            assert Countdown(numbers=numbers, target=target).verify(answer).ok


# ---- encoding ----------------------------------------------------------------------------------


def decoded(tokens: list[int]) -> str:
    return " ".join(markup.VOCABULARY[token] for token in tokens)


@kinds
def test_what_fits_the_row_is_encoded_whole(kind: Draw) -> None:
    rng = random.Random(0)
    for demonstration in drawn(kind)[:50]:
        encoded = encode(demonstration, 10**6, rng)
        assert decoded(encoded.tokens) == f"{prompt(demonstration)} {text(demonstration)}"
        assert encoded.positions == list(range(len(encoded.tokens)))
        assert len(encoded.weights) == len(encoded.tokens)


@given(SEEDS, st.sampled_from([4, 5]), st.sampled_from([200, 512, 1000, 2048]))
def test_a_window_keeps_true_positions_and_fits_the_row(seed: int, count: int, row: int) -> None:
    rng = random.Random(seed)
    numbers = tuple(rng.choice(countdown.NUMBER_RANGE) for _ in range(count))
    demonstration = demonstrations.serial(numbers, rng.choice(countdown.TARGET_RANGE), rng)
    whole = encode(demonstration, 10**6, rng)
    window = encode(demonstration, row, rng)
    assert len(window.tokens) == len(window.positions) == len(window.weights) <= row
    assert all(a < b for a, b in itertools.pairwise(window.positions))
    assert window.tokens == [whole.tokens[position] for position in window.positions]
    assert window.weights == [whole.weights[position] for position in window.positions]
    head = sum(len(piece.text.split()) for piece in demonstration.head)
    assert window.positions[:head] == list(range(head))
    assert len(window.positions) > head


def taken(seed: int, count: int) -> list[TrainingSequence]:
    source = stream(random.Random(seed), ROWS)
    return list(itertools.islice(source, count))


def tokens(seed: int) -> list[list[int]]:
    return [item.tokens for item in taken(seed, 60)]


def test_the_same_seed_gives_the_same_stream() -> None:
    assert tokens(1) == tokens(1)
    assert tokens(1) != tokens(2)


def test_the_shares_of_all_kinds_are_the_whole_mixture() -> None:
    assert sum(MIXTURE.values()) == pytest.approx(1)


def test_the_stream_fits_the_longest_row_and_holds_every_kind() -> None:
    encoded = taken(3, 200)
    assert all(len(item.tokens) <= ROWS[-1] for item in encoded)
    modes = Counter(markup.VOCABULARY[item.tokens[1]] for item in encoded)
    alone, shared = {markup.SERIAL, markup.APR, markup.CALC}, {markup.EACH, markup.MULTI}
    assert set(modes) == alone | shared | {markup.PARA, markup.GROUP}
