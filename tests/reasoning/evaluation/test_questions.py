"""Questions to measure on: whatever file they are in, and whatever its columns are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidValue
from reasoning.evaluation import EvalQuestion, QuestionColumns, load_questions

ROWS = [{"problem": "What is 2+2?", "answer": "4", "level": 1}, {"problem": "1+1?", "answer": 2}]


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def shown(questions: list[EvalQuestion]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(one.id, one.text, one.gold) for one in questions]


def test_columns_are_found_in_every_kind_of_file(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = {"Question": ["a?", "b?"], "target": [["4", "four"], ["2"]]}
    parquet.write_table(pyarrow.table(table), tmp_path / "q.parquet")
    lines = "\n".join(map(json.dumps, ROWS))
    same = [("1", "What is 2+2?", ("4",)), ("2", "1+1?", ("2",))]
    assert shown(load_questions(written(tmp_path / "q.jsonl", lines))) == same
    assert shown(load_questions(written(tmp_path / "q.json", json.dumps(ROWS)))) == same
    text = 'question,answer,id\r\n"What, is\n2+2?",4,x\r\n'
    assert shown(load_questions(written(tmp_path / "q.csv", text))) == [
        ("x", "What, is\n2+2?", ("4",))
    ]
    for mark, name in ((";", "q.csv"), ("\t", "q.csv"), ("\t", "q.tsv")):
        text = f'id{mark}question{mark}answer\r\nx{mark}"What is 2{mark}2, a?"{mark}"1,5"\r\n'
        assert shown(load_questions(written(tmp_path / name, text))) == [
            ("x", f"What is 2{mark}2, a?", ("1,5",))
        ]
    assert [one.gold for one in load_questions(str(tmp_path / "q.parquet"))] == [
        ("4", "four"),
        ("2",),
    ]


@pytest.mark.parametrize(
    ("answer", "gold"),
    [("so 3*2 = 6\n#### 6", "6"), (r"Thus \boxed{\frac12}.", r"\frac12"), ("-7", "-7"), (0, "0")],
)
def test_a_worked_solution_is_read_as_a_model_s_is(
    tmp_path: Path, answer: object, gold: str
) -> None:
    line = json.dumps({"question": "x?", "answer": answer})
    assert load_questions(written(tmp_path / "q.jsonl", line))[0].gold == (gold,)


def test_line_separators_of_texts_end_no_line(tmp_path: Path) -> None:
    line = json.dumps({"question": "a\u2028b\x85c", "answer": "1"}, ensure_ascii=False)
    assert load_questions(written(tmp_path / "q.jsonl", line + "\n"))[0].text == "a\u2028b\x85c"


def test_a_template_and_named_columns(tmp_path: Path) -> None:
    line = json.dumps({"q": "Which?", "a": "x", "b": "y", "right": "A", "input": "no"})
    columns = QuestionColumns(template="{q}\nA) {a}\nB) {b}", gold="right")
    found = load_questions(written(tmp_path / "q.jsonl", line), columns)
    assert found[0].text == "Which?\nA) x\nB) y"
    assert found[0].fields["b"] == "y"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no question"),
        ('{"question": "x?"}', "name the column by --gold"),
        ('{"q": "x?", "answer": 1}', "name the column by --question"),
        ('{"question": " ", "answer": 1}', "row 1 has no text"),
        ('{"question": "x?", "answer": null}', "row 1 has no right answer"),
        ('{"question": "x?", "answer": 1', "line 1: not JSON"),
        ("[1]", "row 1 is no object"),
        (
            '[{"input": "x", "gold": 1, "id": 1}, {"input": "y", "gold": 1, "id": 1}]',
            "twice",
        ),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        load_questions(written(tmp_path / "q.jsonl", text))


def test_a_grader_needs_no_right_answers(tmp_path: Path) -> None:
    path = written(tmp_path / "q.jsonl", '{"question": "Write a haiku."}')
    assert load_questions(path, graded=True)[0].gold == ()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5))
def test_a_larger_limit_adds_to_a_smaller_one(few: int, more: int, seed: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        lines = "\n".join(json.dumps({"question": f"{n}?", "answer": n}) for n in range(30))
        path = written(Path(folder) / "q.jsonl", lines)
        small = load_questions(path, limit=min(few, more), seed=seed)
        large = load_questions(path, limit=max(few, more), seed=seed)
    assert {one.id for one in small} <= {one.id for one in large}
    assert [int(one.id) for one in large] == sorted(int(one.id) for one in large)
    assert len(large) == min(max(few, more), 30)


def test_drawn_questions_have_a_verifier_or_an_answer() -> None:
    drawn = load_questions("countdown:numbers=5", limit=3, seed=1)
    assert [one.domain for one in drawn] == ["countdown"] * 3
    words = load_questions("word-problems", limit=4)
    assert all(one.gold[0].isdigit() for one in words)
    with pytest.raises(InvalidValue, match="countdown:numbers=4"):
        load_questions("countdown:size=5")
