"""Questions to measure on: whatever file they are in, and whatever its columns are called."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("column", ["gold", "Target", "final_answer", "ground_truth", "reference"])
def test_right_answers_are_found_by_their_usual_names(tmp_path: Path, column: str) -> None:
    path = written(tmp_path / "q.csv", f"question,{column}\n1+1?,2\n")
    assert shown(load_questions(path)) == [("1", "1+1?", ("2",))]


@pytest.mark.parametrize(
    ("answer", "gold"),
    [("so 3*2 = 6\n#### 6", "6"), (r"Thus \boxed{\frac12}.", r"\frac12"), ("-7", "-7"), (0, "0")],
)
def test_a_worked_solution_is_read_as_a_model_s_is(
    tmp_path: Path, answer: object, gold: str
) -> None:
    line = json.dumps({"question": "x?", "answer": answer})
    assert load_questions(written(tmp_path / "q.jsonl", line))[0].gold == (gold,)


@pytest.mark.parametrize("name", ["q.csv", "q.csv.gz", "q.CSV", "q.txt", "q"])
@pytest.mark.parametrize(
    "text",
    [
        "question,answer\r\nx?,1\r\n\r\n , \r\n",
        '"question";"answer"\nx?;1\n',
        "question, answer\nx?, 1\n",
        "sep=;\nquestion;answer\nx?;1\n",
        "question\tanswer\ta,b,c,d\nx?\t1\t\n",
        "question|answer\rx?|1\r",
        "id;answer;question\n;1;x?\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_is_read_as_spreadsheets_write_it(
    tmp_path: Path, name: str, text: str, encoding: str
) -> None:
    data = text.encode(encoding)
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert shown(load_questions(str(path))) == [("1", "x?", ("1",))]


def test_long_cells_and_objects_over_several_lines_are_read(tmp_path: Path) -> None:
    text = f'question,answer\n"{"x" * 200_000}",1\n'
    assert len(load_questions(written(tmp_path / "q.csv", text))[0].text) == 200_000
    text = "\n".join(json.dumps(row, indent=1) for row in ROWS)
    assert len(load_questions(written(tmp_path / "q.json", text))) == 2


def test_a_part_of_an_object_is_named_with_a_dot(tmp_path: Path) -> None:
    rows = [{"q": {"text": "x?"}, "answers": {"text": ["a", "b"]}, "answer.x": "c"}]
    path = written(tmp_path / "q.json", json.dumps(rows))
    columns = QuestionColumns(question="q.text", gold="answers.text")
    assert shown(load_questions(path, columns)) == [("1", "x?", ("a", "b"))]
    columns = QuestionColumns(question="q.text", gold="answer.x")
    assert shown(load_questions(path, columns)) == [("1", "x?", ("c",))]


def test_tables_of_parquet_are_read_as_they_are_stored(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def read(**columns: Any) -> list[tuple[str, str, tuple[str, ...]]]:
        parquet.write_table(pyarrow.table(columns), tmp_path / "q.parquet")
        return shown(load_questions(str(tmp_path / "q.parquet")))

    words = pyarrow.array(["a?", "b?"]).dictionary_encode()
    assert read(question=words, answer=[5.0, 0.5]) == [("1", "a?", ("5.0",)), ("2", "b?", ("0.5",))]
    assert read(question=words, answer=[True, False], id=[float("nan"), 7.0])[0] == (
        "1",
        "a?",
        ("true",),
    )
    with pytest.raises(InvalidValue, match=r"row 2: no right answer in 'answer'"):
        read(question=words, answer=pyarrow.array(["1", None]))
    with pytest.raises(InvalidValue, match=r"row 2: no text in 'question'"):
        read(question=["a?", None], answer=["1", "2"])
    with pytest.raises(InvalidValue, match="no question; give at least one"):
        read(question=pyarrow.array([], pyarrow.string()))


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{z}", "there is no 'z'; it has q, a"),
        ("{a[5]}", "list index out of range; it has"),
        ("{q:d}", "Unknown format code"),
        ("{q.nothing}", "no attribute 'nothing'"),
        ("{q", "expected '}'"),
        ("{a[0]}", "the template is empty here"),
    ],
)
def test_a_template_that_does_not_fit_is_one_line(
    tmp_path: Path, template: str, words: str
) -> None:
    path = written(tmp_path / "q.jsonl", '{"q": "x?", "a": [" "], "gold": 1}')
    with pytest.raises(InvalidValue, match=f"line 1: .*{words}"):
        load_questions(path, QuestionColumns(template=template, gold="gold"))


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
        ('{"question": " ", "answer": 1}', "line 1: no text in 'question'"),
        ('{"question": 5, "answer": 1}', "line 1: no text in 'question'"),
        ('{"question": "x?", "answer": null}', "line 1: no right answer in 'answer'"),
        ('{"question": "x?", "answer": NaN}', "line 1: no right answer in 'answer'"),
        ('{"question": "x?", "answer": [null, ""]}', "line 1: no right answer in 'answer'"),
        ('{"question": "x?", "answer": {"value": 1}}', "line 1: answer: .* by --gold answer.value"),
        ('{"prompt": [{"content": "x?"}], "answer": 1}', r"--template '{prompt\[0\]\[content\]}'"),
        ('{"question": "x\\ud800?", "answer": 1}', "line 1: half a character"),
        ('{"question": "x?", "answer": 1', "line 1: not JSON"),
        (f'{{"question": "x?", "answer": {"9" * 5000}}}', "line 1: a number is too long"),
        ("[1]", "item 1: no object"),
        ("question,answer\nx?,1,2\n", "line 2 has more cells than the header; quote commas"),
        ("question,answer\nx?\n", "line 2: no right answer in 'answer'"),
        ('question,answer\n"x?,1\ny?,2\n', "line 3: unexpected end of data; mend the quotes"),
        ("question,answer,answer\nx?,1,2\n", "column 'answer' is there twice; rename one"),
        ("question,answer\nx\0?,1\n", "no text, as it has NUL bytes"),
        ("PK\3\4", "a zip file or a pickle; give JSON lines, CSV or Parquet"),
        ("PAR1 and no more", "no Parquet file that can be read"),
        (
            '[{"input": "x", "gold": 1, "id": 1}, {"input": "y", "gold": 1, "id": "1"}]',
            "item 2: id '1' is that of item 1 too",
        ),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path / "questions", text)
    with pytest.raises(InvalidValue, match=words) as refused:
        load_questions(path)
    assert path in str(refused.value)
    assert "\n" not in str(refused.value)


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
