"""The formats of stored traces: what is read from them, and what is refused, by line and field."""

from __future__ import annotations

import json
import math

import pytest

from pruning import Trace, TracesError, read_questions

SAMPLED = {
    "question_id": "q1",
    "question": "…",
    "gold": " 7",
    "probe_every": 500,
    "traces": [
        {"tokens": 900, "answer": "7", "probes": ["ERR", "7"]},
        {"tokens": 400, "answer": "ERR", "probes": []},
    ],
}
CHAINS = {
    "question_id": "q2",
    "gold": "x",
    "chains": [
        {
            "final_answer": "x ",
            "seconds": 1.0,
            "steps": [
                {"turn": 0, "by": "draft", "text": "d" * 320},
                {"turn": 0, "by": "score", "ppl": 1.5, "percentile": 0.7},
                {"turn": 0, "by": "target", "text": "t" * 32},
                {"turn": 1, "by": "draft", "text": "d" * 32},
                {"turn": 1, "by": "score", "ppl": 1.25, "percentile": 0.1},
            ],
        }
    ],
}


def test_sampled_traces_are_read_with_their_probes() -> None:
    (read,) = read_questions([json.dumps(SAMPLED), ""])
    assert (read.id, read.right, read.probe_every) == ("q1", {"7"}, 500)
    assert read.traces[0] == Trace(tokens=900, answer="7", probes=(None, "7"))
    assert read.traces[1].answer is None


def test_chains_are_read_with_their_scores() -> None:
    (read,) = read_questions([json.dumps(CHAINS)])
    (chain,) = read.traces
    assert chain.answer == "x"
    assert [(s.score, s.tokens, s.target_tokens) for s in chain.steps] == [
        (1.5, 100, 10),
        (1.25, 10, 0),
    ]
    assert chain.tokens == 120


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: no field traces or chains"),
        ("[" * 100_000, "line 2: nested too deeply"),
        ("1" * 5_000, "line 2: a number is too long"),
        (
            json.dumps({**SAMPLED, "traces": [{"tokens": 5, "answer": "a", "score": math.nan}]}),
            "line 2: trace 1: score: nan is not finite",
        ),
        ("{}", "line 2: no field traces or chains"),
        (json.dumps({**SAMPLED, "traces": []}), "line 2: traces: empty"),
        (json.dumps({**SAMPLED, "traces": [{}]}), "line 2: trace 1: tokens: missing"),
        (json.dumps({**SAMPLED, "traces": [7]}), "line 2: trace 1: tokens: missing"),
        (json.dumps({**SAMPLED, "traces": {}}), "line 2: traces: '{}' is of the wrong type"),
        (json.dumps({**SAMPLED, "gold": {"a": 7}}), "line 2: gold: \"{'a': 7}\" is an object"),
        (json.dumps({**SAMPLED, "gold": None}), "line 2: gold: empty; give the right answer"),
        (json.dumps({**SAMPLED, "gold": math.nan}), "line 2: gold: empty; give the right answer"),
        (
            json.dumps({**SAMPLED, "traces": [{"tokens": 5}]}),
            "line 2: trace 1: answer: missing; give it, null where there is none",
        ),
        (
            json.dumps({**SAMPLED, "traces": [{"tokens": 5, "answer": [1, 2]}]}),
            "line 2: trace 1: answer: '[1, 2]' are several; give one",
        ),
        (json.dumps({**SAMPLED, "probe_every": -1}), "line 2: probe_every: -1 is below 0"),
        (
            json.dumps({**SAMPLED, "traces": [{"tokens": 0, "answer": "a"}]}),
            "line 2: trace 1: tokens: out of range",
        ),
        (
            json.dumps({**SAMPLED, "traces": [{"tokens": True, "answer": "a"}]}),
            "line 2: trace 1: tokens: 'True' is of the wrong type; give a whole number",
        ),
        (
            json.dumps({**SAMPLED, "traces": [{"tokens": 5, "answer": "a", "probes": [{}]}]}),
            "line 2: trace 1: probes: '{}' is an object",
        ),
        (
            json.dumps({**SAMPLED, "traces": [{"tokens": 5, "answer": "a", "confidences": ["x"]}]}),
            "line 2: trace 1: confidences: 'x' is of the wrong type; give a number",
        ),
    ],
)
def test_a_bad_line_is_refused_with_its_number_and_field(line: str, message: str) -> None:
    with pytest.raises(TracesError) as refused:
        list(read_questions([json.dumps(SAMPLED), line]))
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("gold", "right"),
    [
        (7, {"7"}),
        (0.5, {"0.5"}),
        (True, {"true"}),
        (["a", 7, None, ""], {"a", "7"}),
        ([], set()),
        (" x ", {"x"}),
    ],
)
def test_answers_may_be_numbers_booleans_and_lists(gold: object, right: set[str]) -> None:
    answers = [7, 0.5, True, "x", None, math.nan, ["y"]]
    traces = [{"tokens": 5, "answer": one} for one in answers]
    line = json.dumps({"question_id": 12, "gold": gold, "traces": traces})
    (question,) = read_questions([line])
    assert (question.id, question.right) == ("12", right)
    assert [trace.answer for trace in question.traces] == [
        "7",
        "0.5",
        "true",
        "x",
        None,
        None,
        "y",
    ]
