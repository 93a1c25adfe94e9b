"""Which answers are one though their keys differ: by algebra, within limits, and by money."""

from __future__ import annotations

import anyio
import pytest

from reasoning.problems.equality import algebra, canonical, comparer, equal
from reasoning.problems.equality.algebra import Equivalence


def merged(*answers: str, question: str = "") -> int:
    """How many classes some answers make."""
    found = Equivalence(question)
    keys = [str(canonical(answer, question)) for answer in answers]
    found.compare(keys)
    assert not found.limited
    return len({found.known(key) for key in keys})


@pytest.mark.parametrize(
    "answers",
    [
        (r"\sqrt{8}", r"2\sqrt{2}", r"x = \sqrt{8}", r"\frac{4}{\sqrt2}"),
        (r"(x+1)^2", r"x^2 + 2x + 1"),
        (r"2(x+1)", r"2x+2"),
        (r"2^{10}", "1024", "1,024"),
        (r"\frac{\pi}{2}", r"0.5\pi", r"\pi/2"),
        (r"x > 3", "3 < x", r"2x > 6", r"-x < -3"),
        (r"2x + 4y = 6", r"x + 2y = 3"),
        (r"(\sqrt8, 1)", r"(2\sqrt2, 1)"),
        (r"[0, \sqrt8)", r"[0, 2\sqrt2)"),
        (r"\{1, \sqrt8\}", r"\{2\sqrt2, 1\}"),
        (r"(-\infty, \sqrt8)", r"(-\infty, 2\sqrt2)"),
        (r"\sin(x)^2 + \cos(x)^2", "1"),
        (r"\frac{1}{4}\pi", r"\frac{\pi}{4}", "1/4*π"),
        (r"\frac{1}{2}x", "x/2", "0.5x"),
        (r"\pi R^2", r"R^2\pi"),
        (r"\frac{a}{b}c", "a/b*c", "ac/b"),
    ],
    ids=lambda answers: answers[0],
)
def test_answers_that_algebra_equates_are_one(answers: tuple[str, ...]) -> None:
    assert merged(*answers) == 1


@pytest.mark.parametrize(
    "answers",
    [
        (r"2\pi", "6.283185307179586", "6.28"),
        ("1/3", "0.333333", "0.3333333333333333"),
        (r"\pi", "22/7", "3.14"),
        (r"\frac12 x", r"\frac{1}{2x}", "x/3"),
        (r"\sqrt{2x}", r"\sqrt{2}x"),
        (r"x^{2y}", "x^2 y"),
        ("x - 1", "1 - x"),
        ("y = 2x + 1", "2x + 1", "z = 2x + 1"),
        ("x < 3", "-x < -3", r"x \le 3"),
        (r"\sqrt{x} = -1", r"\sqrt{x} = -2"),
        ("x^2 < -1", "x^2 < -2"),
        ("(1, 2)", "(2, 1)", "[1, 2]", r"\{1, 2\}", "[1, 2)"),
        ("3-1", "2"),
        (r"2 \times 3", "6", "5"),
        ("on", "no", "ab", "ba"),
        ("B2", "2B"),
        ("5 m", "5m^2", "m5"),
        ("10:30", "1/3", "2:6"),
        ("x + y", "x + y + 10^{-40}"),
        ("a/bc", "a/b*c", "a/(bc)"),
        ("1/2x", "x/2", "1/(2x)"),
        (r"\pi R^2", r"r^2\pi"),
        ("2R + 2r", "4r", "4R"),
        ("2c + 1 - 1", "2", "2g + 0"),
    ],
    ids=lambda answers: answers[0],
)
def test_answers_that_differ_stay_apart(answers: tuple[str, ...]) -> None:
    assert merged(*answers) == len(answers)


@pytest.mark.parametrize(
    ("answers", "groups"),
    [
        (("30", "$30", "30 dollars"), "aaa"),
        (("€30", "30", "30.00 €"), "aaa"),
        (("$3, $4", "3, 4"), "aa"),
        (("30", "$30", "€30"), "aab"),
        (("$30", "€30", "30"), "abc"),
        (("$30", "20", "€20"), "abb"),
    ],
)
def test_an_amount_without_currency_votes_with_the_only_one(
    answers: tuple[str, ...], groups: str
) -> None:
    found = Equivalence("How much is it?")
    keys = [str(canonical(answer)) for answer in answers]
    found.compare(keys)
    names = [found.known(key) for key in keys]
    assert "".join("abc"[list(dict.fromkeys(names)).index(name)] for name in names) == groups


def test_an_amount_is_equal_to_one_with_a_currency_or_without() -> None:
    assert equal("$30", "30")
    assert equal("30", "€30")
    assert equal("$30", "30 dollars")
    assert not equal("$30", "€30")


def test_a_question_says_which_currency_a_bare_amount_has() -> None:
    question = "How much is it in dollars?"
    assert merged("$30", "30", "€30", question=question) == 2
    assert canonical("30", question) == canonical("$30", question)


def test_where_a_form_is_asked_for_only_equal_keys_are_one() -> None:
    forms = ("(x-1)(x+1)", "x^2-1")
    assert merged(*forms) == 1
    assert merged(*forms, question="Factor x^2 - 1.") == 2
    assert merged(r"2\sqrt2", r"\sqrt8", question=r"Simplify \sqrt{8}.") == 2


@pytest.mark.parametrize(
    "answer",
    [
        "9^{9^{9^9}}",
        "9^9^9^9",
        "99999999999!",
        "((x!)!)!",
        "10^{10^{10}} + x",
        r"\frac{" * 300 + "1" + "}{x}" * 300,
        "(" * 150 + "x" + ")" * 150,
        r"x^{999999999}",
        r"\sqrt{" * 60 + "x" + "}" * 60,
        "x" + "+x" * 99,
        "|" * 199,
        "-" * 199 + "x",
    ],
)
def test_what_would_compute_for_long_is_not_computed(answer: str) -> None:
    assert merged(answer, "x + 1", "1024") == 3


def test_a_comparison_that_takes_too_long_leaves_its_answers_apart() -> None:
    long = [f"(a+b+c+d+e+f+{letter})^{{60}}" for letter in "gh"]
    found = Equivalence()
    found.compare(str(canonical(answer)) for answer in long)
    assert (found.merged, found.limited) == ({}, True)
    assert merged(r"\sqrt{18}", r"3\sqrt{2}") == 1  # it works on


def test_only_so_many_comparisons_are_made() -> None:
    found = Equivalence(_left=3)
    found.compare([f"x+{n}" for n in range(50)])
    assert (found.merged, found.limited) == ({}, True)


@pytest.mark.anyio
async def test_the_event_loop_goes_on_while_answers_are_compared() -> None:
    comparer.comparer().close()  # it begins anew, which takes a while
    found, turns = Equivalence(), 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await anyio.sleep(0.001)
            turns += 1

    async with anyio.create_task_group() as group:
        group.start_soon(turn)
        await found.of("√50")
        assert await found.of("5√2") == "√50"
        group.cancel_scope.cancel()
    assert turns > 3


def test_without_the_extra_equal_keys_alone_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(algebra, "is_available", lambda: False)
    assert merged(r"\sqrt{8}", r"2\sqrt{2}") == 2
