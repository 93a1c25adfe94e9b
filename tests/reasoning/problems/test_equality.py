r"""The one key of equal answers: what is the same votes together, what differs never does."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasoning.problems import FreeForm
from reasoning.problems.equality import canonical, equal, number

SAME = [
    ["1/2", "0.5", ".5", r"\frac12", r"\tfrac{1}{2}", "½", "50/100", r"x = \frac{1}{2}"],
    ["3 1/2", r"3\frac{1}{2}", "3½", "7/2", "3.5"],
    ["-5", "−5", "–5", "- 5", "(-5)", "-5.0"],
    ["1234567", "1,234,567", "1.234.567", "1 234 567", "1'234'567", r"1\,234\,567", "12,34,567"],
    ["1234.56", "1,234.56", "1.234,56", "1 234,56", "$1,234.56", "€ 1.234,56"],
    ["12.5", "€12.50", "12,50 €", "12.50 euros"],
    ["1000000", "1e6", "10^6", r"10^{6}", r"1 \times 10^6"],
    ["50%", r"50\%", "50 percent", "50 per cent"],
    ["45°", r"45^\circ", "45 degrees", "45"],
    ["60 km/h", r"60\text{ km/h}", "60 kilometers per hour", "60km/h"],
    ["12 m²", "12 m^2", "12 square metres", r"12\ \mathrm{m^2}"],
    ["12 apples", "12 apple"],
    [r"\{1, 2\}", "{2, 1}", r"\left\{ 1, 2 \right\}"],
    ["±3", r"\pm 3", r"\{3, -3\}", "3 or -3", "x = 3 or x = -3"],
    ["(1, 2]", r"\left(1, 2\right]", "(1,2]"],
    [r"(-\infty, 3]", "(−∞, 3]"],
    [r"2\sqrt{3}", "2√3", r"2\cdot\sqrt{3}"],
    ["x^2 + 1", "x^{2}+1", "x²+1"],
    ["y = 2x + 1", "y=2x+1"],
    [r"x \leq 3", "x<=3", "x ≤ 3"],
    [r"\frac{\pi}{2}", "π/2"],
    ["B", "(B)", "b.", r"\textbf{B}", "option B"],
    ["the Moon", "Moon.", '"moon"', r"\text{Moon}", "**Moon**"],
    ["Ｐａｒｉｓ", "paris"],
    [r"\emptyset", "∅", r"\{\}"],
    ["5:30", "5 : 30"],
    ["seven", "7"],
    ["3:45 PM", "3:45pm"],
    ["12 EUR", "USD 12", "US$12", "12"],
    [r"\frac{n(n+1)}{2}", "n(n+1)/2"],
    [r"\log 2", "log 2"],
    [r"24\pi", "24 π"],
    [r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"],
    ['{"a": 1, "b": 2}', '{"b":2,"a":1}'],
    ["15:30", "3:30 PM", "3:30 p.m.", "3:30pm", "15:30 Uhr", "15h30"],
    ["9 am", "9:00 AM", "9 a.m."],
    ["2024-05-06", "May 6, 2024", "May 6th, 2024", "6 May 2024", "6th of May 2024"],
    ["1 h 30 min", "1 hour 30 minutes", "1 hour and 30 minutes", "1 hr 30 mins"],
    ["5 ft 10 in", "5 feet 10 inches"],
    ["20 °C", "20°C", r"20\,^{\circ}\text{C}", "20 degrees Celsius"],
    ["x = 2, y = 3", "y=3, x=2"],
    ["x = 2, x = 3", r"\{3, 2\}", "x = 2 or x = 3"],
    ["1, 2 and 3", "1, 2, 3", "1; 2; 3", "1, 2, and 3"],
    ["A, C", "A and C", "(A), (C)", r"\text{A}, \text{C}"],
    [
        r"\begin{bmatrix} 0.5 & 0 \\ 0 & 1 \end{bmatrix}",
        r"\begin{pmatrix}\frac12&0\\0&1\end{pmatrix}",
    ],
    ["≈ 3.14", r"\approx 3.14", "about 3.14", "3.14"],
    [r"+/- 2", r"\pm 2"],
    [r"\infty", "∞", "+∞", "infinity"],
    ["twenty-one", "21", "twenty one", "٢١", "２１"],
    [r"H_2O", "H₂O", r"\text{H}_2\text{O}"],
    [r"3 \pmod{7}", "3 (mod 7)", "3 mod 7"],
    [r"\lfloor x \rfloor", "⌊x⌋"],
    [r"\langle 1, 2 \rangle", "⟨1,2⟩"],
    [r"\mathbb{R}", "ℝ"],
    [r"\textcolor{red}{5}", r"{\color{red}5}", "5"],
    ["¥5000", "5,000 yen", "JPY 5000"],
    [r"x = 2\sqrt{2}", r"2\sqrt2"],
]

DIFFERENT = [
    ["12,50", "1250", "12.5"],
    ["1,2,5,0", "1250"],
    ["5 m", "5 cm", "5 km"],
    ["12 m", "12 m^2"],
    ["50%", "0.5", "5%"],
    ["3 1/2", "31/2"],
    ["x > 3", "x < 3", "x >= 3"],
    ["(1, 2)", "[1, 2]", "(2, 1)"],
    ["1, 2, 3", "3, 2, 1"],
    ["1:2", "2:1", "1/2"],
    ["x^{10}", "x^10+1"],
    ["3.10.1", "3.1.1"],
    ["2024-05-06", "2024-05-07", "2013"],
    ["20 °C", "20 °F"],
    ["New York", "York"],
    ["5!", "5"],
    ["A and B", "A or B"],
    ["7 am", "7 pm"],
    [r"\frac{1}{2}x", "1/(2x)"],
    ["-3, 2", "3, 2"],
    ["5 million", "5"],
    ["x = 4", "x = -4"],
    [r"\frac{a}{b+c}", "a/b+c"],
    ["123456789012345678901234567890", "123456789012345678901234567891"],
    [r"\sqrt{2}x", r"\sqrt{2x}"],
    [r"e^{2x}", "e^2x", r"e^{-2x}", r"e^{-2}x"],
    ["5 MW", "5 mW"],
    ["3 MB", "3 Mb"],
    ["n!", "n", "(n+1)!", "n+1!"],
    ["x'", "x", "x''", "x*", r"\bar{x}"],
    ["5'", '5"', "5"],
    ["x=2, y=3", "x=3, y=2", "2"],
    ["(1,5; 2)", "(1, 5, 2)", "(15; 2)"],
    ["1, 2; 3, 4", "1, 2, 3, 4", "1, 2, 3; 4"],
    ["12 am", "12 pm", "12"],
    ["March 5, 2020", "May 3, 2020", "May 5, 2020"],
    ["1 h 3 min", "1 h 30 min", "30 min"],
    ["1.000 €", "1 €"],
    ["02134", "2134"],
    [r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}"],
    [r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"],
    [r"0.\overline{3}", "0.3", r"0.\dot{3}"],
    ["ℝ", "R"],
    [r"\Gamma", r"\gamma"],
    ["C++", "C", "C#", "A+", "A"],
    ["2 or 3", "2 and 3"],
    ["30 pounds", "$30"],
]

NOTATIONS = [form for row in SAME + DIFFERENT for form in row]


@pytest.mark.parametrize("forms", SAME, ids=lambda forms: forms[0])
def test_forms_of_one_answer_share_a_key(forms: list[str]) -> None:
    keys = {form: canonical(form) for form in forms}
    assert None not in keys.values()
    assert len(set(keys.values())) == 1, keys


@pytest.mark.parametrize("answers", DIFFERENT, ids=lambda answers: answers[0])
def test_different_answers_have_different_keys(answers: list[str]) -> None:
    keys = {answer: canonical(answer) for answer in answers}
    assert len(set(keys.values())) == len(answers), keys


@pytest.mark.parametrize("answer", ["", " . ", "\n", "$$"])
def test_an_answer_without_words_has_no_key(answer: str) -> None:
    assert canonical(answer) is None
    assert not equal(answer, answer)


@pytest.mark.parametrize(
    ("question", "one", "other", "same"),
    [
        ("How many apples are left?", "14 apples", "14", True),
        ("How many apples are left?", "14 pears", "14", False),
        ("What percentage stayed?", "12.5%", "12.5", True),
        ("How far is it, in km?", "5 kilometres", "5", True),
        ("How far is it, in km?", "5 m", "5", False),
        ("Find all x with x^2 = 9.", "3, -3", "-3, 3", True),
        ("Find all solutions.", "x = 3 or x = -3", "-3, 3", True),
        ("Find all solutions of the system.", "x = 1, y = 2", "x = 2, y = 1", False),
        ("Sort them.", "1, 2", "2, 1", False),
    ],
)
def test_the_question_says_which_unit_or_order_may_be_left_out(
    question: str, one: str, other: str, same: bool
) -> None:
    problem = FreeForm(question=question)
    assert (problem.canonical(one) == problem.canonical(other)) is same


@given(st.one_of(st.text(max_size=40), st.sampled_from(NOTATIONS)))
def test_a_key_is_its_own_key(answer: str) -> None:
    key = canonical(answer)
    assert key is None or canonical(key) == key


@given(st.sampled_from(NOTATIONS), st.sampled_from(NOTATIONS))
def test_equality_is_symmetric(one: str, other: str) -> None:
    assert equal(one, other) is equal(other, one)


@given(st.text(alphabet=r"0123456789.,'/^*()[]{}\-+= eabx$%", max_size=60))
def test_no_answer_makes_the_key_raise(answer: str) -> None:
    canonical(answer)
    number(answer)


@given(st.integers(-(10**12), 10**12), st.integers(0, 3))
def test_a_number_has_one_key_in_every_notation(value: int, places: int) -> None:
    exact = Fraction(value, 10**places)
    text = f"{exact.numerator}/{exact.denominator}"
    decimal = f"{value / 10**places:.{places}f}" if abs(value) < 10**9 else text
    forms = {text, decimal, rf"\frac{{{exact.numerator}}}{{{exact.denominator}}}", f"${text}$"}
    assert {canonical(form) for form in forms} == {str(exact)}
    grouped = f"{value:,}"
    assert number(grouped) == value


@pytest.mark.parametrize(
    "answer",
    ["9^9^9^9", "1e999999999", "9" * 2000, r"\frac{" * 500, "(" * 2000, "1," * 999, "±" * 999],
)
def test_hostile_answers_cost_next_to_nothing(answer: str) -> None:
    started = time.process_time()
    canonical(answer)
    assert time.process_time() - started < 0.5
