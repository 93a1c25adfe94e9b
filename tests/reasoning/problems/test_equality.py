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
    ["1234.56", "1,234.56", "1.234,56", "1 234,56"],
    ["€ 1.234,56", "1,234.56 euros"],
    ["€12.50", "12,50 €", "12.50 euros", "12.5 EUR"],
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
    ["$30", "30 dollars", "US$30", "30 USD", "USD 30", "30$", r"\$30.00", "30 us dollars"],
    ["£30", "GBP 30", "30 pounds sterling"],
    ["A$30", "AUD 30", "30 Australian dollars"],
    ["-$5", "$-5", "−5 dollars"],
    ["$1.5 million", "$1,500,000", "1.5 million dollars", "$1.5M"],
    ["$5k", "$5K", "5000 dollars"],
    ["5 million", "5,000,000", "5 Million"],
    ["$5/hour", "$5 per hour", "5 dollars per hour", "5 USD/h"],
    ["50 cents", "50 cent", "50¢"],
    ["5 kW", "5 kilowatts", "5 kw", "5 KW", "5 Kilowatts"],
    ["5 MW", "5 megawatts", "x = 5 MW"],
    ["300 K", "300 kelvin", "300 Kelvin"],
    ["5 km", "5 KM", "5 kilometers"],
    ["64 KB", "64 kB", "64 kilobytes"],
    ["5 GHz", "5 ghz", "5 gigahertz"],
    ["5 Ω", "5 ohms", r"5\ \Omega"],
    ["5 μm", "5 µm", "5 micrometers", r"5\ \mu m"],
    ["5 Nm", "5 N·m", r"5\ \text{N}\cdot\text{m}"],
    ["9.8 m/s^2", "9.8 m s^{-2}", r"9.8\ \mathrm{m\,s^{-2}}"],
    ["5 mL", "5 ml", "5 milliliters"],
    ["CO_2", "CO₂", "CO2", r"\mathrm{CO_2}"],
    ["H2O", "H_2O", "h2o"],
    ["NaCl", "NACL"],
    ["SO_4^{2-}", "SO4^2-"],
    ["16 GB", "16 gigabytes", "16 gb"],
    ["5 years", "5 yrs"],
    [r"O(n\log n)", "O(n log n)"],
    [r"\frac{1}{2}\text{ mile}", "1/2 mile", "0.5 miles"],
    ["Ca(OH)_2", "Ca(OH)2"],
    ["No", "NO", "no"],
    ["JavaScript", "Javascript"],
    ["N/A", "n/a"],
    [r"\frac{a}{b}c", r"\frac{a}{b}\cdot c", "(a/b)c"],
    [r"\frac{1}{2}x", r"\frac12 x"],
    ["2 x", "2x"],
    [r"2\sin(x)", "2 Sin(x)"],
    ["3E8", "3e8"],
    ["|x|", r"\lvert x \rvert"],
    ["twenty apples", "20 Apples"],
    ["March 5", "5 March", "the 5th of March"],
    ["1st", "first"],
    ["0", "-0", "−0.0", "+0"],
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
    ["30 pounds", "$30", "£30"],
    ["$30", "€30", "¥30", "30 CHF", "A$30", "C$30", "30 yuan"],
    ["$5", "$5%", "$5/hour", "€5/hour", "5 cents", "$5k", "$5m"],
    ["$3, $4", "€3, €4"],
    ["5 million", "5 billion"],
    ["5 K", "5 k", "5 °C"],
    ["5 m", "5 M", "5 mm", "5 Mm", "5 m/s", "5 m/s^2", "5 m^3"],
    ["5 Mbps", "5 MBps"],
    ["5 s", "5 S", "5 ms", "5 mS", "5 Ms"],
    ["5 nm", "5 Nm", "5 nM"],
    ["5 g", "5 G", "5 mg", "5 Mg"],
    ["5 Pa", "5 pA"],
    ["5 meV", "5 MeV"],
    ["5 cal", "5 Cal"],
    ["1 K, 2 K", "1 k, 2 k"],
    ["x = 5 mW", "x = 5 MW"],
    ["CO", "Co"],
    ["CO_2", "Co_2", "CO_3"],
    ["COS", "CoS"],
    ["(HF, O)", "(Hf, O)"],
    ["AA", "Aa", "aa"],
    ["Bb", "BB", "bb"],
    ["a/bc", "a/b*c", "a/(bc)"],
    ["1/2x", "1/(2x)", r"\frac12 x"],
    [r"\pi R^2", r"\pi r^2"],
    ["F(x)", "f(x)"],
    ["R = 5, r = 3", "R = 3, r = 5"],
    ["print('a')", "print('A')"],
    ["my_var", "MY_VAR"],
    ["0^+", "0^-", "0"],
    ["5%", "5 percentage points"],
    ["2^{1}0", "2^{10}"],
    ["March 5", "May 5", "March 6"],
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
        ("On what date is it?", "3/4", "0.75", False),
        ("On what date is it?", "03/04", "3/4", True),
        ("What is the time signature?", "3/4", "6/8", False),
        ("What is 6/8 as a decimal?", "3/4", "0.75", True),
        ("How much is it in dollars?", "$30", "30", True),
        ("How much is it in dollars?", "€30", "30", False),
        ("What does it cost in £?", "£30", "30 pounds", True),
        ("What is its power in MW?", "5 MW", "5", True),
        ("What is its power in MW?", "5 mW", "5", False),
        ("What is the ratio of boys to girls?", "2 to 3", "2:3", True),
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
