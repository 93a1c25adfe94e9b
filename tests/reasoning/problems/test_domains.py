"""Problem domains: generators, exact solver, strict verifiers, vote keys and recognition."""

from __future__ import annotations

import itertools
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.errors import InvalidValue, ReasonError
from reasoning.errors import ProblemRefused
from reasoning.problems import Arithmetic, Countdown, FreeForm, arithmetic, countdown, recognise
from reasoning.problems.expression import (
    Operation,
    apply,
    evaluate,
    largest,
    leaves,
    parse,
    redexes,
    reduce_at,
    render,
    steps,
)

SEEDS = st.integers(0, 10**6)
EXAMPLE = Countdown(numbers=(3, 10, 21, 23), target=50)
TRAP = Countdown(numbers=(12, 5, 7, 3), target=24)
SUM = Arithmetic(expression="( 17 * 3 + 5 ) * 4 - 12")  # 212


@st.composite
def operation(draw: st.DrawFn, sides: st.SearchStrategy[Operation | int]) -> Operation:
    left, right = draw(sides), draw(sides)
    values = evaluate(left), evaluate(right)
    allowed = [sign for sign in "+-*/" if apply(values[0], sign, values[1]) is not None]
    return Operation(left=left, operator=draw(st.sampled_from(allowed)), right=right)


def trees(leaves: st.SearchStrategy[int]) -> st.SearchStrategy[Operation | int]:
    return st.recursive(leaves, operation, max_leaves=8)


TREES = trees(st.integers(0, 99))
WILD = st.recursive(
    st.integers(0, 9),
    lambda sides: st.builds(Operation, left=sides, operator=st.sampled_from("+-*/"), right=sides),
    max_leaves=6,
)
"""Trees whose intermediates may be negative or fractional."""


def exact(tree: Operation | int) -> Iterator[Fraction]:
    """Every intermediate, the value last, computed without the code under test."""
    if isinstance(tree, int):
        yield Fraction(tree)
        return
    left, right = list(exact(tree.left)), list(exact(tree.right))
    yield from left + right
    a, b = left[-1], right[-1]
    if tree.operator == "/":
        yield a / b
    else:
        yield {"+": a + b, "-": a - b, "*": a * b}[tree.operator]


def full(tree: Operation | int) -> str:
    """The tree with every parenthesis."""
    if isinstance(tree, int):
        return str(tree)
    return f"({full(tree.left)}{tree.operator}{full(tree.right)})"


def mirrored(tree: Operation | int) -> Operation | int:
    """The tree with the operands of every sum and product exchanged."""
    if isinstance(tree, int):
        return tree
    sides = mirrored(tree.left), mirrored(tree.right)
    left, right = reversed(sides) if tree.operator in "+*" else sides
    return Operation(left=left, operator=tree.operator, right=right)


# ---- expressions -------------------------------------------------------------------------------


@given(TREES)
def test_rendering_and_parsing_are_inverse(tree: Operation | int) -> None:
    assert parse(render(tree)) == tree
    assert parse(full(tree)) == tree
    assert parse(render(tree).replace(" ", "")) == tree


@given(TREES)
def test_the_value_is_what_python_computes(tree: Operation | int) -> None:
    text = re.sub(r"\d+", r"Fraction(\g<0>)", render(tree))
    assert evaluate(tree) == eval(text, {"Fraction": Fraction})


@given(WILD)
def test_a_negative_or_fractional_intermediate_has_no_value(tree: Operation | int) -> None:
    try:
        allowed = all(n >= 0 and n.denominator == 1 for n in exact(tree))
    except ZeroDivisionError:
        allowed = False
    if allowed:
        assert evaluate(tree) == list(exact(tree))[-1]
    else:
        with pytest.raises(ValueError, match="not a non-negative integer"):
            evaluate(tree)


@given(TREES)
def test_reducing_any_redex_keeps_the_value(tree: Operation | int) -> None:
    for index in range(redexes(tree)):
        reduced = reduce_at(tree, index)
        assert evaluate(reduced) == evaluate(tree)
        assert len(leaves(reduced)) == len(leaves(tree)) - 1


def test_redexes_are_counted_from_the_left() -> None:
    tree = parse("1+2-(8-2*3)")
    assert redexes(tree) == 2
    assert render(reduce_at(tree, 0)) == "3 - ( 8 - 2 * 3 )"
    assert render(reduce_at(tree, 1)) == "1 + 2 - ( 8 - 6 )"


@given(TREES)
def test_steps_are_exact_and_end_in_the_value(tree: Operation | int) -> None:
    found = list(steps(tree))
    assert len(found) == len(leaves(tree)) - 1
    for step in found:
        assert Fraction(step.result) == list(exact(parse(str(step).split("=")[0])))[-1]
    assert ([tree] if isinstance(tree, int) else [found[-1].result]) == [evaluate(tree)]


@given(TREES)
def test_largest_is_the_largest_intermediate(tree: Operation | int) -> None:
    assert largest(tree) == max(exact(tree))


@pytest.mark.parametrize(
    "text", ["", "1+", "+1", "(1", "1)", "1 2", "()", "1++2", "2^3", "one", "1.5", "-" * 300]
)
def test_what_is_not_an_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse(text)


@pytest.mark.parametrize("text", [r"3 \times 4 \div 2", "3×4÷2", "3·4/2", "3*4/2"])
def test_typographic_operators_are_read(text: str) -> None:
    assert evaluate(parse(text)) == 6


# ---- the held-out split ------------------------------------------------------------------------


@given(st.permutations([3, 10, 21, 23, 23]), st.integers(10, 100))
def test_the_split_does_not_depend_on_the_order_of_the_numbers(
    numbers: list[int], target: int
) -> None:
    shuffled = Countdown(numbers=tuple(numbers), target=target)
    assert shuffled.held_out is Countdown(numbers=(3, 10, 21, 23, 23), target=target).held_out


@pytest.mark.parametrize("count", [4, 5])
def test_about_one_problem_in_32_is_held_out(count: int) -> None:
    rng = random.Random(count)
    draws = 20_000
    held = sum(
        Countdown(
            numbers=tuple(rng.randint(1, 99) for _ in range(count)), target=rng.randint(10, 100)
        ).held_out
        for _ in range(draws)
    )
    assert 0.9 / 32 < held / draws < 1.1 / 32


def test_both_domains_draw_from_the_side_that_is_asked_for() -> None:
    rng = random.Random(0)
    for side in (True, False):
        for _ in range(10):
            assert countdown.generate(rng, held_out=side).held_out is side
            assert arithmetic.generate(rng, held_out=side).held_out is side


# ---- Countdown: generator and solver -----------------------------------------------------------


@pytest.mark.parametrize(("count", "draws"), [(4, 200), (5, 60)])
def test_countdown_problems_follow_the_papers_distribution(count: int, draws: int) -> None:
    rng = random.Random(1)
    problems = [countdown.generate(rng, count=count) for _ in range(draws)]
    numbers = [n for problem in problems for n in problem.numbers]
    assert {len(problem.numbers) for problem in problems} == {count}
    assert 1 <= min(numbers) < 5
    assert 95 < max(numbers) <= 99
    assert 40 < sum(numbers) / len(numbers) < 55
    targets = [problem.target for problem in problems]
    assert 10 <= min(targets) < 15
    assert 95 < max(targets) <= 100
    assert all(countdown.solve(problem.numbers, problem.target) for problem in problems)


def reachable(numbers: tuple[int, ...]) -> set[int]:
    """All that three numbers can make, by brute force over orders and both bracketings."""

    def values(a: Fraction, b: Fraction) -> list[Fraction]:
        every = [a + b, a - b, a * b, *([a / b] if b else [])]
        return [n for n in every if n >= 0 and n.denominator == 1]

    found: set[int] = set()
    for a, b, c in itertools.permutations(map(Fraction, numbers)):
        for first in values(a, b):
            found.update(map(int, values(first, c) + values(c, first)))
    return found


@given(st.tuples(*[st.one_of(st.integers(1, 99), st.integers(1, 12))] * 3))
def test_the_solver_agrees_with_brute_force_on_three_numbers(numbers: tuple[int, ...]) -> None:
    possible = reachable(numbers)
    for target in range(10, 101):
        assert (countdown.solve(numbers, target) is not None) is (target in possible)


@given(SEEDS, st.sampled_from([3, 4, 4, 5]))
def test_every_solution_of_the_solver_passes_the_verifier(seed: int, count: int) -> None:
    problem = countdown.generate(random.Random(seed), count=count)
    solution = countdown.solve(problem.numbers, problem.target)
    assert solution is not None
    verdict = problem.verify(", ".join(map(str, solution)))
    assert verdict.ok, verdict.reason
    assert len(solution) == count - 1


# ---- Countdown: verifier -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "answer"),
    [
        (TRAP, "12-5=7, 12+12=24"),
        (TRAP, "12+12=24"),
        (TRAP, "12+12"),
        (EXAMPLE, "10*3=30, 23-3=20, 30+20=50"),
        (EXAMPLE, "10*3+23-3"),
    ],
)
def test_a_number_used_twice_is_rejected(problem: Countdown, answer: str) -> None:
    verdict = problem.verify(answer)
    assert not verdict.ok
    assert "not available" in verdict.reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("12*5=60, 60/3=20, 20+4=24", "4 is not available"),
        ("12+5=17, 17+7=24", "not all numbers are used"),
        ("24", "not all numbers are used"),
        ("12+5=18, 18+7=25, 25-1=24", "12+5=18 is wrong"),
        ("12+5=17, 17+7=24, 24+3=24", "24+3=24 is wrong"),
        ("5-7=2, 12*2=24, 24*3=24", "5-7=2 is wrong or not a non-negative integer"),
        ("12/5=2, 7+3=10, 10+2=12", "12/5=2 is wrong or not a non-negative integer"),
        ("12+5=17, 17+7=24, 24+3=27", "the result is 27, not 24"),
        ("12+5+7+3", "the result is 27, not 24"),
        ("(5-7)*12+3", "no non-negative integer"),
        ("(12/5)*7*3", "no non-negative integer"),
        ("12/(3-3)", "neither"),
        ("12-5=-7, 7+3=10", "neither"),
        ("", "neither"),
        (" , ", "neither"),
        ("twenty-four", "neither"),
        ("12 + 5 = x", "neither"),
        ("(12+5", "neither"),
        ("((((" * 100, "neither"),
    ],
)
def test_a_wrong_answer_is_rejected_with_its_reason(answer: str, reason: str) -> None:
    verdict = TRAP.verify(answer)
    assert not verdict.ok
    assert reason in verdict.reason


@pytest.mark.parametrize(
    "answer",
    [
        "21-3=18, 23-18=5, 10*5=50",
        "21 - 3 = 18; 23 - 18 = 5; 5 * 10 = 50",
        " 21-3=18\n23-18=5\n10*5=50\n",
        "10*(23-(21-3))",
        "10*(23-(21-3))=50",
        "(23-(21-3))×10",
        r"10 \times (23 - (21 - 3))",
        "21−3=18, 23–18=5, 10×5=50",
        r"21-3=18, 23-18=5, 10 \times 5 = 50",
    ],
)
def test_steps_and_expressions_are_accepted_in_usual_notations(answer: str) -> None:
    verdict = EXAMPLE.verify(answer)
    assert verdict.ok, verdict.reason


def test_an_expression_claimed_to_equal_another_number_is_rejected() -> None:
    assert not EXAMPLE.verify("10*(23-(21-3))=49").ok


@given(trees(st.integers(1, 99)))
def test_a_tree_solves_the_problem_that_it_defines(tree: Operation | int) -> None:
    problem = Countdown(numbers=tuple(leaves(tree)), target=evaluate(tree))
    assert problem.verify(full(tree)).ok
    assert problem.verify(render(mirrored(tree))).ok
    if isinstance(tree, Operation):
        assert problem.verify(", ".join(map(str, steps(tree)))).ok
    more = Countdown(numbers=(*problem.numbers, 1), target=problem.target)
    other = Countdown(numbers=problem.numbers, target=problem.target + 1)
    assert not more.verify(full(tree)).ok
    assert not other.verify(full(tree)).ok


@given(st.one_of(st.text(), st.text(alphabet="0123456789+-*/()=,;× \n")))
def test_no_answer_makes_a_verifier_raise(answer: str) -> None:
    for problem in (EXAMPLE, SUM):
        verdict = problem.verify(answer)
        assert verdict.reason
        problem.canonical(answer)


# ---- Countdown: vote keys ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("21-3=18, 23-18=5, 10*5=50", "10*(23-(21-3))"),
        ("21-3=18, 23-18=5, 10*5=50", "21 - 3 = 18; 23 - 18 = 5; 5 × 10 = 50"),
        ("3+10=13, 23-21=2, 13*2=26", "23-21=2, 10+3=13, 2*13=26"),
        ("(3+10)*(23-21)", "(23-21)*(10+3)"),
        ("(5-1)*(3+2)", "(3+2)*(5-1)"),
    ],
)
def test_commuted_and_reordered_answers_vote_together(one: str, other: str) -> None:
    key = EXAMPLE.canonical(one)
    assert key is not None
    assert key == EXAMPLE.canonical(other)


@given(trees(st.integers(1, 9)))
@example(parse("(3+2)*(5-1)"))
def test_exchanging_operands_of_sums_and_products_keeps_the_vote(tree: Operation | int) -> None:
    assert EXAMPLE.canonical(full(tree)) == EXAMPLE.canonical(full(mirrored(tree)))


def test_different_answers_vote_apart() -> None:
    answers = [
        "21-3=18, 23-18=5, 10*5=50",
        "23-21=2, 3+2=5, 10*5=50",
        "10*3=30, 30+21=51, 51-23=28",
        "(10-3)-(23-21)",
        "(10-3)+(23-21)",
        "10-(3-(23-21))",
        "((3+2)-1)*5",
        "(3+2)*(5-1)",
    ]
    assert max(Counter(map(EXAMPLE.canonical, answers)).values()) == 1


@pytest.mark.parametrize(
    ("answer", "ok"),
    [
        (r"50 = 10 \times (23 - (21 - 3))", True),
        (r"\left(23 - (21 - 3)\right) \cdot 10 = 50", True),
        ("10(23 - (21 - 3))", True),
        ("(23−(21−3))·10", True),
        ("10*(23-(21-3)) = 51", False),
        ("50 = 50", False),
        ("50", False),
        ("10*(23-(21-3)) = 10*5 = 50", True),
        ("10*(23-(21-3)) = 10*5 = 51", False),
        (r"10 \times [23 - \{21 - 3\}]", True),
        ("10 x (23 - (21 - 3))", True),
        ("10*5 = 50", False),
    ],
)
def test_an_expression_is_judged_in_any_notation(answer: str, ok: bool) -> None:
    assert EXAMPLE.verify(answer).ok is ok


@pytest.mark.parametrize("answer", ["", "no idea", "1/0", "3-10", "(3"])
def test_a_malformed_answer_abstains(answer: str) -> None:
    assert EXAMPLE.canonical(answer) is None


# ---- arithmetic --------------------------------------------------------------------------------


def test_arithmetic_problems_stay_within_the_vocabulary() -> None:
    rng = random.Random(2)
    counts: Counter[int] = Counter()
    for _ in range(300):
        problem = arithmetic.generate(rng)
        counts[len(leaves(problem.tree)) - 1] += 1
        assert all(1 <= leaf <= 99 for leaf in leaves(problem.tree))
        values = list(exact(problem.tree))
        assert all(n.denominator == 1 and 0 <= n <= 999 for n in values)
        assert problem.verify(str(values[-1])).ok
        assert not problem.verify(str(values[-1] + 1)).ok
    assert counts.keys() == {3, 4, 5, 6, 7}


@pytest.mark.parametrize("operations", [1, 3, 7])
def test_an_expression_has_the_operations_that_are_asked_for(operations: int) -> None:
    problem = arithmetic.generate(random.Random(3), operations=operations)
    assert len(list(steps(problem.tree))) == operations


@pytest.mark.parametrize("answer", ["212", " 212 ", "212.0", " 212.0", "212.00", "+212", "0212"])
def test_the_right_integer_passes_in_any_notation(answer: str) -> None:
    assert SUM.verify(answer).ok
    assert SUM.canonical(answer) == "212"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("211", "the value is not 211"),
        ("-212", "the value is not -212"),
        ("212.5", "the value is not 425/2"),
        ("2 1 2", "not a number"),
        ("212 apples", "not a number"),
        ("", "not a number"),
        ("9" * 5000, "not a number"),
    ],
)
def test_a_wrong_value_is_rejected_with_its_reason(answer: str, reason: str) -> None:
    verdict = SUM.verify(answer)
    assert not verdict.ok
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("answer", "key"),
    [
        ("1,000", "1000"),
        (" 1000.0", "1000"),
        ("1'000", "1000"),
        (r"1\,000", "1000"),
        ("1,0,0,0", None),
        ("−7", "-7"),
        ("- 7", "-7"),
        ("(-7)", "-7"),
        (r"3\frac{1}{2}", "7/2"),
        ("3 1/2", "7/2"),
        ("31/2", "31/2"),
        ("7/2 = 3.5", "7/2"),
        (r"25 \times 50 = 1250", "1250"),
        ("25*50 = 1251", None),
        ("25*50", None),
        (r"1.25 \times 10^2", "125"),
        ("x = 7", "7"),
        ("-7", "-7"),
        ("-0", "0"),
        ("007", "7"),
        ("7.5", "15/2"),
        ("15/2", "15/2"),
        ("1/0", None),
        ("seven", None),
        ("", None),
    ],
)
def test_numbers_vote_by_their_value(answer: str, key: str | None) -> None:
    assert SUM.canonical(answer) == key


# ---- recognition -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Use 3, 10, 21 and 23 to make 50",
        "use the numbers 3, 10, 21, and 23 to reach 50.",
        "Using 3 10 21 23, make 50!",
        "Combine 3, 10, 21, 23 with + - * / to get 50",
        "With 3, 10, 21 and 23, each once, obtain the target 50.",
        "Make 50 from 3, 10, 21 and 23",
        "Please make 50 using the numbers 3, 10, 21, 23.",
        "How can I get 50 with 3, 10, 21 and 23?",
        EXAMPLE.question,
    ],
)
def test_countdown_is_recognised_from_plain_words(text: str) -> None:
    assert recognise(text) == EXAMPLE


@given(SEEDS, st.sampled_from([4, 5]))
def test_the_question_of_a_problem_is_recognised_as_that_problem(seed: int, count: int) -> None:
    problem = countdown.generate(random.Random(seed), count=count)
    assert recognise(problem.question) == problem
    expression = arithmetic.generate(random.Random(seed))
    again = recognise(expression.question)
    assert isinstance(again, Arithmetic)
    assert again.tree == expression.tree
    assert again.held_out is expression.held_out


@pytest.mark.parametrize(
    "text",
    [
        "Compute (17*3+5)*4-12",
        "compute: (17 * 3 + 5) * 4 - 12.",
        "What is (17×3+5)×4−12?",
        "what's (17*3+5)*4-12 ?",
        "How much is (17·3+5)*4–12?",
        "(17*3+5)*4-12",
        "(17*3+5)*4-12 = ?",
        "Calculate (17*3+5)*4-12 =",
        "Evaluate\n(17*3+5)*4-12\n",
    ],
)
def test_arithmetic_is_recognised_from_plain_words(text: str) -> None:
    problem = recognise(text)
    assert isinstance(problem, Arithmetic)
    assert render(problem.tree) == SUM.expression


@pytest.mark.parametrize(
    "text",
    [
        "Why is the sky blue?",
        "How many primes are below 30?",
        "What is 7?",
        "Tom has 3 apples and buys 4 more; how many has he?",
        "Make a list of 10 colours",
        "A shop sells boxes with 6, 12 and 24 eggs; how do I get 100 eggs?",
        "From 8, 12 and 20 players we have to make teams of 10. How many are left?",
        "Use 5, 6 and 7 as often as you like to make 18.",
        "Use 3, 10, 21 and 23 with + only to make 50",
        "Use 3, 10, 21 and 23 to make 50. Show two ways.",
        "Use any of 3, 10, 21 and 23 to make 50",
        "Can you make 100 from 1, 2, 3 and 4? Explain why not.",
        "With 10, 20 and 30 percent off, what gets me below 50 euros?",
        "What is 1-800-555-0199?",
        "What is 555-0199?",
        "What is 2024-05-06?",
        "What is 1 + 1 in binary?",
        "Compute 3+4 and explain each step.",
        "def f():\n    return 1",
        " x + 2 = 5, what is x? ",
    ],
)
def test_any_other_question_is_free_form(text: str) -> None:
    problem = recognise(text)
    assert problem == FreeForm(question=text)
    assert problem.verify("42") is None


def test_free_form_answers_vote_by_their_words() -> None:
    problem = FreeForm(question="Which city?")
    assert problem.canonical(" New   York.") == problem.canonical("new york") == "new york"
    assert problem.canonical("York") != problem.canonical("New York")
    assert problem.canonical(" . ") is None


@pytest.mark.parametrize(
    ("text", "error", "field"),
    [
        ("", InvalidValue, "problem"),
        (" \n\t", InvalidValue, "problem"),
        ("x" * 100_001, InvalidValue, "problem"),
        ("Use 0, 10, 21 and 23 to make 50", InvalidValue, "numbers"),
        ("Use 3, 10, 21 and 100 to make 50", InvalidValue, "numbers"),
        ("Use -3, 10, 21 and 23 to make 50", InvalidValue, "numbers"),
        ("Use 3 and 10 to make 30", InvalidValue, "numbers"),
        ("Use 1, 2, 3, 4, 5 and 6 to make 21", InvalidValue, "numbers"),
        ("Use 3, 10, 21 and 23 to make 9", InvalidValue, "target"),
        ("Use 3, 10, 21 and 23 to make 101", InvalidValue, "target"),
        ("Use 3, 10, 21 and 23 to make -50", InvalidValue, "target"),
        (f"Use {'9' * 5000}, 10, 21 and 23 to make 50", InvalidValue, "numbers"),
        (f"Use 3, 10, 21 and 23 to make {'9' * 5000}", InvalidValue, "target"),
        ("Use 1, 1, 1 and 1 to make 100", ProblemRefused, "target"),
        ("Compute (1+2", InvalidValue, "expression"),
        ("Compute 1+2)", InvalidValue, "expression"),
        ("Compute 1+*2", InvalidValue, "expression"),
        ("Compute 1 2+3", InvalidValue, "expression"),
        (f"Compute {'1+' * 200}1", InvalidValue, "expression"),
        (f"Compute {'(' * 5000}1+1", InvalidValue, "expression"),
    ],
)
def test_a_bad_problem_is_refused_in_one_line_that_names_the_field(
    text: str, error: type[ReasonError], field: str
) -> None:
    with pytest.raises(error) as caught:
        recognise(text)
    message = str(caught.value)
    assert "\n" not in message
    assert field in message
    assert len(message) < 300


@given(st.text(alphabet="0123456789+-*/() ", max_size=12), st.sampled_from(["", "-2", "7", "1/2"]))
@example("3-5", "-2")
@example("7/2", "3.5")
@example("1/0", "0")
def test_any_expression_is_refused_or_can_be_judged(text: str, answer: str) -> None:
    try:
        problem = recognise(f"Compute {text}")
    except ReasonError:
        return
    problem.verify(answer)
    problem.canonical(answer)


@pytest.mark.parametrize("text", ["1" + " " * 300 + "apples", "use " * 5000])
def test_a_repetitive_text_is_read_at_once(text: str) -> None:
    started = time.process_time()
    recognise(text)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    ("question", "answer", "right"),
    [
        ("Use 3, 10, 21 and 23 to make 50", r"\text{(23 - 21 + 3) * 10}", True),
        ("Use 3, 10, 21 and 23 to make 50", "`(23-21+3)*10`", True),
        ("Use 3, 10, 21 and 23 to make 50", "x = (23-21+3)(10)", True),
        ("Use 3, 10, 21 and 23 to make 50", "(23 - 21 + 3) * 10 = 5 * 10 = 50", True),
        ("Use 3, 10, 21 and 23 to make 50", "10*(23-21+3)+0", False),
        ("Use 3, 10, 21 and 23 to make 50", "10*(23-(21-3)) = 51", False),
        ("Use 3, 10, 21 and 23 to make 50", "10^(23-21+3)", False),
        ("Compute 25*50.", r"1.25\times10^3", True),
        ("Compute 25*50.", "1250;", True),
        ("Compute 25*50.", "1250%", False),
        ("Compute 25*50.", "1250 or 1251", False),
        ("Compute 25*50.", "24*50=1250", False),
        ("Compute 25*50.", "25*50=1200=1250", False),
        ("Compute 25*50.", "1250!", False),
        ("Compute 7/2.", "3½", True),
        ("Compute 7/2.", "7:2", False),
        ("Compute 7/2.", r"350\%", False),
        ("Compute each: 1) 3+4*5; 2) (7-2)*6", "3+4*5=23, (7-2)*6=30", True),
        ("Compute each: 1) 3+4*5; 2) (7-2)*6", "30, 23", False),
        ("List 3 different multiples of 7", r"\{7, 14, 21\}", True),
        ("List 3 different multiples of 7", "7, 14, 22", False),
    ],
)
def test_verifiers_know_the_forms_of_chat_models(question: str, answer: str, right: bool) -> None:
    verdict = recognise(question).verify(answer)
    assert verdict is not None
    assert verdict.ok is right


def test_numbers_that_need_a_fraction_are_no_countdown_problem() -> None:
    assert recognise("make 24 from 3 3 8 8").domain == "free-form"
    with pytest.raises(ProblemRefused, match="every intermediate result a non-negative integer"):
        recognise(Countdown(numbers=(3, 3, 8, 8), target=24).question)


def test_words_without_the_rule_of_whole_results_take_any_expression() -> None:
    asked = recognise("Use 3, 10, 21 and 23 to make 37")
    assert asked.verify("10-(3-(23+21))").reason == "the result is 51, not 37"
    assert asked.verify("23+21+3-10").ok
    assert asked.verify("3-10+21+23").ok
    assert asked.verify("10-3-21+23").reason == "the result is 9, not 37"
    assert asked.verify("3-10+44").reason == "not each number, and no other, is used once"
    strict = recognise(asked.question)
    assert strict == asked
    assert strict.verify("3-10+21+23").reason == "an intermediate result is no non-negative integer"
