"""What a server's answer is read as: every carrier of reasoning, and everything malformed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasoning.backends.base import Token
from reasoning.backends.openai import reasoning_fields as fields
from reasoning.backends.text_tokens import TURN, TextDialect, TextTokens
from reasoning.problems import FreeForm


def delta(**fields: Any) -> dict[str, Any]:
    return {"index": 0, "delta": fields}


@pytest.mark.parametrize(
    ("choice", "thought", "said"),
    [
        (delta(reasoning="hm"), "hm", ""),
        (delta(reasoning_content="hm"), "hm", ""),
        (delta(reasoning="hm", reasoning_content="hm"), "hm", ""),
        (delta(thinking="hm"), "hm", ""),
        (delta(reasoning_details=[{"type": "reasoning.text", "text": "hm"}]), "hm", ""),
        (delta(reasoning_details=[{"type": "reasoning.summary", "summary": "hm"}]), "hm", ""),
        (delta(reasoning_details=[{"type": "reasoning.encrypted", "data": "?"}]), "", ""),
        (delta(content=[{"type": "thinking", "thinking": [{"text": "hm"}]}]), "hm", ""),
        (delta(content=[{"type": "text", "text": "yes"}]), "", "yes"),
        (delta(content="<think>hm</think>yes"), "", "<think>hm</think>yes"),
        (delta(content="yes", reasoning=None), "", "yes"),
        (delta(role="assistant", content=None), "", ""),
        ({"message": {"content": "yes"}}, "", "yes"),
        ({"text": "yes"}, "", "yes"),
    ],
)
def test_reasoning_is_found_in_every_carrier(
    choice: dict[str, Any], thought: str, said: str
) -> None:
    assert fields.text(choice) == (thought, said)


@pytest.mark.parametrize("line", ["", ": ping", "event: x", "id: 3", "data:", "data: [DONE]"])
def test_lines_without_an_event_carry_none(line: str) -> None:
    assert fields.event(line) is None


@pytest.mark.parametrize(
    "line", ["<html>", 'data: {"a": ', "data: 3", 'data: {"error": {"message": "out of memory"}}']
)
def test_a_malformed_event_says_what_came(line: str) -> None:
    with pytest.raises(fields.Malformed):
        fields.event(line)


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text()))
def test_any_object_is_an_event(body: dict[str, Any]) -> None:
    body.pop("error", None)
    assert fields.event(f"data: {json.dumps(body)}") == body


def test_usage_tells_what_was_cached() -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 32}}
    found = fields.usage({"usage": {"prompt_tokens": 40, "completion_tokens": 2, **details}})
    assert found == fields.ServerUsage(prompt=40, completion=2, cached=32)
    assert fields.usage({"usage": {"prompt_tokens": 40}}) == fields.ServerUsage(
        prompt=40, completion=None, cached=None
    )
    assert fields.usage({"usage": None}) is None


@given(st.text(alphabet=st.characters(exclude_characters=TURN)))
def test_pieces_give_the_text_back(text: str) -> None:
    dialect = TextDialect(TextTokens())
    assert dialect.text_tokens.text(dialect.encode(text)) == text


def test_pieces_become_a_chat_with_the_partial_answer_last() -> None:
    dialect = TextDialect(TextTokens())
    prompt = dialect.prompt(FreeForm(question="Why?"))
    asked = dialect.forms(FreeForm(question="Why?")).turn("Go on.")
    tokens = dialect.text_tokens
    ids = [*prompt.tokens, *dialect.encode("Because"), tokens.end, *dialect.encode(asked)]
    roles = [one["role"] for one in tokens.messages([*ids, *dialect.encode("of")])]
    assert roles == ["user", "assistant", "user", "assistant"]
    (first, answer, second, last) = tokens.messages([*ids, *dialect.encode("of")])
    assert first["content"].startswith("Why?")
    assert (answer["content"], second["content"].strip(), last["content"]) == (
        "Because",
        "Go on.",
        "of",
    )


@pytest.mark.parametrize("drawn", [{}, {" z": -7.0}], ids=["listed once", "listed beside"])
def test_confidence_is_over_the_likeliest_tokens_alone(drawn: dict[str, float]) -> None:
    top = {**drawn, " a": -0.5, " b": -1.5}
    logprobs = {"token_logprobs": [-0.5], "top_logprobs": [top]}
    choice = {"token_ids": [7], "logprobs": logprobs}
    (token,) = fields.tokens(choice, 2)
    assert token == Token(7, -0.5, None, 1.0)
    (token,) = fields.tokens(choice, 0)
    assert token.confidence is None
