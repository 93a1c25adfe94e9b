r"""The one reading of answers: boxes, stated answers, final texts, and no answer where none is."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidValue
from reasoning.problems.answers import AnswerFormat, FoundAnswer, read_answer

MANY = "How many are there?"


def answer(text: str, question: str = MANY, form: str = "auto", *, finished: bool = True) -> object:
    """The answer alone."""
    return read_answer(text, AnswerFormat.parse(form), question=question, finished=finished).answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"So \boxed{5}. Wait, it is \boxed{6}.", "6"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{f(x) = \left\{ \begin{array}{l} 1 \end{array} \right.}", None),
        (r"It is \boxed 7.", "7"),
        (r"It is \fbox{7}.", "7"),
        (r"It is \boxed{\boxed{7}}.", r"\boxed{7}"),
        (r"\boxed{12} is my answer. It stands in \boxed{}.", "12"),
        (r"Put it in \boxed{answer}, as \boxed{\text{your answer}}.", None),
        (r"\boxed{...}", None),
        (r"Unclosed: \boxed{5", None),
    ],
)
def test_the_last_complete_box_is_the_answer(text: str, expected: str | None) -> None:
    if expected is None and "array" in text:
        expected = r"f(x) = \left\{ \begin{array}{l} 1 \end{array} \right."
    assert answer(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"They are \boxed{B} and \boxed{D}.", "B, D"),
        (r"So \boxed{2} or \boxed{-2}.", "2, -2"),
        (r"1) \boxed{23} 2) \boxed{23}", "23, 23"),
        (r"So $x = \boxed{3}$ and $y = \boxed{4}$.", "3, 4"),
        (r"$\boxed{7}$, $\boxed{7}$", "7"),
        (r"First \boxed{1}. Later it is \boxed{2}.", "2"),
    ],
)
def test_boxes_that_one_sentence_joins_are_one_answer(text: str, expected: str) -> None:
    assert answer(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1) 3 + 20 = \\boxed{23}\n2) 5 * 6 = \\boxed{30}", "23, 30"),
        ("1) 23\n2) 30", "1) 23\n2) 30"),
        ("The answers are 23 and 30.", "23 and 30"),
        (r"First \boxed{3}, then \boxed{20}. It is \boxed{23}.", "23"),
    ],
)
def test_a_question_of_two_parts_has_two_answers(text: str, expected: str) -> None:
    assert answer(text, "Compute each: 1) 3+4*5; 2) (7-2)*6") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The final answer is 18. I checked it in 3 ways.", "18"),
        ("**Final Answer:** 18\n\nCheck: 18 + 4 = 22.", "18"),
        ("**Answer: 18**", "18"),
        ("The answer is **18** of 30 cars.", "18"),
        ("## Final Answer\n\n18", "18"),
        ("Final answer:\n\\[\nx = 18\n\\]", "x = 18"),
        ("#### 18\n\nQuestion: Ann has 12 cars. Answer: 12", "18"),
        ("#### Step 1\nCount.\n#### 18", "18"),
        (r"First \boxed{5}, but that is wrong. The final answer is 18.", "18"),
        (r"\boxed{18}. The answer is correct.", "18"),
        ("The answer is 17? No. The answer is 18.", "18"),
        ("The answer is 18 because 9 + 9 = 18.", "18"),
        ("The answer is `abc`.", "abc"),
        ("The answer is __main__.", "__main__"),
        ("__Answer:__ 18", "18"),
        ("Answer:\n```\nabc\n```", "abc"),
        ("<answer>18</answer>", "18"),
        ("That is wrong, the answer is 18.", "18"),
        (r"\boxed{18}. Note: the answer is 19 if you count both ends.", "18"),
        ("The answer is -$250.", "-$250"),
        ("The answer is [0, 5).", "[0, 5)"),
        ("The answer is version 3.11.7.", "version 3.11.7"),
        ("The answer is J. R. R. Tolkien.", "J. R. R. Tolkien"),
        ("Die Antwort lautet 18.", "18"),
        ("La réponse est 18.", "18"),
        ("La respuesta es 18.", "18"),
        ("Ответ: 18 яблок. (Проверка: 9 + 9)", "18 яблок"),
        ("答案是 18。（共 3 步）", "18"),
        ("答えは18です。", "18"),
        ("정답은 18입니다.", "18"),
        ("There are 9 rows.\n\n**18**", "18"),
        ("The result is **1,250**.", "1,250"),
    ],
)
def test_a_stated_answer_is_read_without_what_surrounds_it(text: str, expected: str) -> None:
    assert answer(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "There may be 7, or 8.",
        "I can't say; see chapter 7.",
        "The answer is not 5.",
        "If the answer is 5, then both are wrong.",
        "Is the answer 5? I can't say.",
        "The answer lies between 3 and 5.",
        "**Step 3:** count",
        "Answer: [your answer]",
        "",
        "...",
    ],
)
def test_a_number_that_merely_stands_there_is_no_answer(text: str) -> None:
    assert read_answer(text, question=MANY).source == "none"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"<think>Perhaps \boxed{5}?</think>\boxed{7}", "7"),
        (r"<thinking>\boxed{5}</thinking>Answer: 7", "7"),
        (r"[THINK]\boxed{5}[/THINK]\boxed{7}", "7"),
        (r"the prompt opened it: \boxed{5}</think>\boxed{7}", "7"),
        (r"<think>Perhaps \boxed{5}", None),
        (r"\boxed{5}</think>", None),
        (
            r"<|channel|>analysis<|message|>\boxed{5}<|end|><|channel|>final<|message|>\boxed{7}",
            "7",
        ),
        (r"<|channel|>analysis<|message|>\boxed{5}", None),
    ],
)
def test_thoughts_give_no_answer(text: str, expected: str | None) -> None:
    assert answer(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is 12", None),
        ("The answer is 12.", None),
        ("The answer is 12.\n", "12"),
        ("The answer is **12** an", "12"),
        (r"\boxed{12} is wh", "12"),
        (r"\boxed{12", None),
        ("Paris is the capital of", None),
        ("9 of the 30 cards are red. Next we", None),
    ],
)
def test_a_cut_text_gives_only_what_stands_complete(text: str, expected: str | None) -> None:
    assert answer(text, finished=False) == expected


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        ("What is the capital of France?", "It is Paris. It has 3 airports.", None),
        ("Why is it so?", "Bread was dear in 1787.", None),
        (MANY, "7 apples.", "7 apples"),
        ("Is 91 a prime?", "No, because 91 = 7 * 13.", "No"),
        ("Which? A) Paris B) Lyon", "B) Lyon", "B"),
        ("Which? A) Paris B) Lyon", "The correct answer is B) Lyon.", "B"),
        ("Write a function f.", "Here:\n```python\ndef f(): ...\n```\nDone.", "def f(): ..."),
    ],
)
def test_the_final_text_answers_in_the_questions_form(
    question: str, text: str, expected: str | None
) -> None:
    assert answer(text, question) == (expected or text)


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("boxed", r"Answer: 5. \boxed{6}", "6"),
        ("boxed", "Answer: 5.", None),
        ("text", r" So \boxed{6} it is. ", r"So \boxed{6} it is."),
        ("json", 'Here: {"answer": "six", "n": 6}.', "six"),
        ("json", 'First [1], then {"n": 6}.', '{"n": 6}'),
        ("json", "no JSON {", None),
        (r"/code (\w+)/", "code ab, then code cd", "cd"),
        (r"/\d+/", "none", None),
    ],
)
def test_an_asked_form_is_the_only_one_read(form: str, text: str, expected: str | None) -> None:
    assert answer(text, form=form) == expected


def test_a_pattern_at_the_end_of_a_cut_text_may_go_on() -> None:
    assert answer("x=1, x=12", form=r"/x=(\d+)/", finished=False) == "1"


def test_a_reading_keeps_the_whole_final_text() -> None:
    assert read_answer("<think>Hm.</think>\nIt is \\boxed{7}.", question=MANY) == FoundAnswer(
        answer="7", source="box", text="It is \\boxed{7}."
    )


@pytest.mark.parametrize("given", ["", "xml", "/", "//", "/(/"])
def test_an_unknown_format_is_refused_by_the_fields_name(given: str) -> None:
    with pytest.raises(InvalidValue, match=r"^answer: ") as caught:
        AnswerFormat.parse(given)
    assert "\n" not in str(caught.value)


@given(st.sampled_from(["auto", "boxed", "text", "json", "/a+(b)?/"]))
def test_a_formats_words_are_read_as_that_format(given: str) -> None:
    assert str(AnswerFormat.parse(given)) == given


PIECES = st.sampled_from(
    [
        r"\boxed{",
        "}",
        "{",
        "The answer is ",
        "7",
        ".",
        "\n",
        "**",
        "$",
        "<think>",
        "</think>",
        "#### ",
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join), st.booleans())
def test_whatever_is_written_is_read_from_what_was_written(text: str, finished: bool) -> None:
    reading = read_answer(text, question=MANY, finished=finished)
    assert (reading.answer is None) is (reading.source == "none")
    assert reading.answer is None or "7" in reading.answer or reading.answer in text


@pytest.mark.parametrize(
    "piece",
    [r"\boxed{", r"\boxed{1},", "answer is ", "answer: $$", "####\n", " ", "\n", "{", '{"a":', "`"],
)
def test_hostile_repetition_is_read_at_once(piece: str) -> None:
    started = time.process_time()
    for form in ("auto", "json"):
        answer(piece * 20_000, form=form)
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "text",
    [
        "Antwort: 14",
        "Die richtige Antwort ist **14**.",
        "Die Antwort lautet 14.",
        "La réponse finale est : **14**.",
        "Respuesta final: 14",
        "Risposta finale: 14",
        "A resposta é 14.",
        "Het antwoord is 14.",
        "Odpowiedź: 14",
        "Odpověď: 14",
        "Svaret är 14.",
        "Vastaus: 14",
        "Válasz: 14",
        "Răspuns: 14",
        "Cevap: 14",
        "Правильный ответ — 14.",
        "Відповідь: 14",
        "Απάντηση: 14",
        "答え：14",
        "答えは14です。",
        "最终答案是14。",
        "정답: 14",
        "Đáp số: 14",
        "Jawaban: 14",
        "الجواب: 14",
        "התשובה: 14",
        "उत्तर: 14",
    ],
)
def test_an_answer_is_announced_in_many_languages(text: str) -> None:
    assert answer(text) == "14"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The final answer is therefore 42.", "42"),
        (r"The final answer is then \(42\).", "42"),
        ("The answer is 5! = 120.", "5! = 120"),
        ("The answer is J. R. R. Tolkien.", "J. R. R. Tolkien"),
        ("The answer is .25", ".25"),
        ("The answer is 3:30 p.m.", "3:30 p.m"),
        ("`42`", "42"),
        ("Your answer is 41, but the right answer is 42.", "42"),
        ("A student's answer is 41. This is wrong.", None),
        ("The answer isn't 41.", None),
        ("If the answer is 41 then x = 3, which is false. Hence no.", None),
        ("The answer is obvious: count them.", None),
        ("The answer is given by the formula n(n+1)/2 with n = 3.", None),
        ("Step 1: 3 + 4 = 7.\nStep 2: 7 * 2 = 14.", None),
        ("I cannot determine the answer from the 3 facts.", None),
        ("Also sind 14 Äpfel übrig.", None),
    ],
)
def test_what_announces_an_answer_and_what_only_speaks_of_one(
    text: str, expected: str | None
) -> None:
    assert answer(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is 12", None),
        ("The answer is 12.", None),
        ("The answer is 12.\n", "12"),
        ("Answer: 3. Then", "3"),
        ("#### 12", None),
        ("#### 12\n", "12"),
        ("<answer>3</answer>", "3"),
        ("<answer>3", None),
        ("The answer is $3$", "3"),
        ("The answer is $3", None),
        ("The final answer is **12**", "12"),
        ("The final answer is **12", None),
        ("Yes", None),
    ],
)
def test_a_cut_text_gives_what_is_complete(text: str, expected: str | None) -> None:
    assert answer(text, finished=False) == expected
