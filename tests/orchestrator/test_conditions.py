"""Conditions of edges: plain text that means the same on both sides of JSON."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from orchestrator.errors import InvalidValue
from orchestrator.scheduler.conditions import ALWAYS, COMPLETION, SUCCESS, Condition
from orchestrator.views.record import FINAL, TaskState


@pytest.mark.parametrize(
    ("condition", "states"),
    [
        (SUCCESS, {"succeeded"}),
        (COMPLETION, {"succeeded", "failed"}),
        (ALWAYS, {"succeeded", "failed", "skipped", "cancelled"}),
        (Condition.parse("result == 1"), {"succeeded"}),
        (Condition.parse("state != 'failed'"), {"succeeded", "skipped", "cancelled"}),
        (Condition.parse("error == null && true"), {"succeeded", "skipped", "cancelled"}),
    ],
)
def test_a_condition_holds_in_these_states(condition: Condition, states: set[TaskState]) -> None:
    def holds(state: TaskState) -> bool:
        result = 1 if state == "succeeded" else None
        return condition.holds(state, result, "x" if state == "failed" else None)

    assert {state for state in FINAL if holds(state)} == states


class Colour(Enum):
    RED = "red"


class Model(BaseModel):
    score: float


@dataclass
class Plain:
    tags: list[str]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("result > 5", 7),
        ("result > 5", 5.5),
        ("result.score > 0.5", Model(score=0.9)),
        ("'a' in result.tags", Plain(tags=["a"])),
        ("size(result) == 2 && result[1] == 'b'", ("a", "b")),
        ("result == 'red'", Colour.RED),
        ("result == '2026-01-02'", date(2026, 1, 2)),
        ("result.exists(x, x.ok)", [{"ok": False}, {"ok": True}]),
        ("has(result.a) && result.a == null", {"a": None}),
        ("result.name.startsWith('é')", {"name": "été"}),
    ],
)
def test_an_expression_looks_at_the_result_as_json(text: str, result: Any) -> None:
    assert Condition.parse(text).holds("succeeded", result, None)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("result >", "1:9: Syntax error"),
        ("", "0 characters"),
        ("x" * 3000, "3000 characters"),
        ("answer == 1", "names 'answer'; it can use result, state, error"),
        ("result.all(x, result.all(y, result.all(z, true)))", "more than 2 loops"),
        ("(" * 900 + "true" + ")" * 900, "is no expression"),
    ],
)
def test_what_is_no_condition_is_refused_in_one_line(text: str, why: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        Condition.parse(text)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "result", "why"),
    [
        ("result.name == 'x'", 3, "overload"),
        ("result.name == 'x'", {}, "name"),
        ("1 / result > 0", 0, "division by zero"),
        ("result + 1", 1, "gives int, not true or false"),
        ("result == 1", object(), "Unable to serialize"),
    ],
)
def test_what_cannot_be_decided_names_the_condition(text: str, result: Any, why: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        Condition.parse(text).holds("succeeded", result, None)
    assert repr(text) in str(caught.value)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hostile_pattern_does_not_hang() -> None:
    started = time.monotonic()
    assert not Condition.parse("result.matches('^(a+)+$')").holds("succeeded", "a" * 40 + "b", None)
    assert time.monotonic() - started < 2


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(max_size=5)
    | st.floats(-9, 9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)
TEXTS = st.sampled_from(
    [
        "result == null",
        "type(result) == list && size(result) > 1",
        "result > 0",
        "result == 'a' || result == 1",
        "state == 'failed' || result == true",
        "size(result) > 0",
        "success",
        "always",
    ]
)


@given(TEXTS, JSON)
def test_a_condition_means_the_same_after_json(text: str, result: Any) -> None:
    adapter = TypeAdapter(Condition)
    once = Condition.parse(text)
    again = adapter.validate_json(adapter.dump_json(once))

    def outcome(condition: Condition, value: Any) -> str:
        try:
            return str(condition.holds("succeeded", value, None))
        except InvalidValue:
            return "undecided"

    assert again == once
    assert outcome(again, json.loads(json.dumps(result))) == outcome(once, result)
