"""What stands around a question, and how tokens are to be drawn: values that are checked."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import InvalidValue
from reasoning.options import SolveOptions
from reasoning.values.conversation import Conversation, ToolCall, calls_as_answer

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Why?"}
SAID = {"role": "assistant", "content": "So."}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
RESULT = {"role": "tool", "content": "3", "tool_call_id": "1"}
ASKED = {"role": "user", "content": "Q"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:"}}
TEXT = {"type": "text", "text": "Why?"}


@pytest.mark.parametrize(
    ("messages", "asked"),
    [
        ([], [ASKED]),
        ([SYSTEM], [SYSTEM, ASKED]),
        ([SYSTEM, USER], [SYSTEM, ASKED]),
        ([USER, SAID], [USER, SAID, ASKED]),
        ([USER, SAID, USER], [USER, SAID, ASKED]),
        ([USER, CALL, RESULT], [ASKED, CALL, RESULT]),
        ([{**USER, "content": [TEXT, TEXT]}], [ASKED]),
        (
            [{**USER, "content": [TEXT, IMAGE], "name": "A"}],
            [{**USER, "content": [{**TEXT, "text": "Q"}, IMAGE], "name": "A"}],
        ),
    ],
)
def test_the_question_stands_in_place_of_the_last_user_message(
    messages: list[dict[str, Any]], asked: list[dict[str, Any]]
) -> None:
    assert [one.as_dict() for one in Conversation.of(messages).asking("Q")] == asked


@pytest.mark.parametrize(
    "message", [{"content": "?"}, {"role": "robot", "content": "?"}, {**USER, "content": 3}, "hi"]
)
def test_what_is_no_message_is_refused_by_name(message: Any) -> None:
    with pytest.raises(InvalidValue, match="messages:"):
        SolveOptions(conversation=[message])


def test_equal_calls_are_one_answer_whatever_their_form() -> None:
    one = ToolCall(id="a", name="f", arguments='{"x": 1, "y": [2]}')
    same = ToolCall(id="b", name="f", arguments='{ "y":[2],"x":1}')
    other = ToolCall(id="a", name="f", arguments='{"x": 2, "y": [2]}')
    assert calls_as_answer([one]) == calls_as_answer([same]) != calls_as_answer([other])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("top_p", 0),
        ("top_p", 1.5),
        ("top_k", -1),
        ("top_k", 2.5),
        ("min_p", 2),
        ("repetition_penalty", 0),
        ("presence_penalty", 3),
        ("frequency_penalty", True),
        ("logit_bias", {-1: 1.0}),
        ("logit_bias", {3: 101}),
        ("logit_bias", [3]),
        ("stop", ""),
        ("stop", [""]),
        ("stop", [3]),
        ("max_new_tokens", 0),
        ("system", 3),
        ("instruction", ["?"]),
        ("thinking", "yes"),
        ("chat_template_kwargs", "x"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidValue, match=name.replace("_", "[-_]")):
        SolveOptions(**{name: value})
