"""What a server's answer is read as: every carrier of reasoning, and everything malformed."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasoning.backends.base import Token
from reasoning.backends.openai import reasoning_fields as fields
from reasoning.backends.openai.event_stream import ErrorEvent, EventParser, Malformed
from reasoning.backends.text_tokens import END, TURN, TextDialect, chat_messages, text_of
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


def events(*blocks: bytes) -> list[Any]:
    parser = EventParser()
    return [found for block in blocks for found in parser.feed(block)] + list(parser.end())


@pytest.mark.parametrize(
    "line",
    [
        "",
        ": ping",
        "event: x",
        "id: 3",
        "data:",
        "data",
        "data: [DONE]",
        "other: 3\ndata:",
        "event: ping\ndata: x",
    ],
)
def test_lines_without_an_event_carry_none(line: str) -> None:
    assert events(f"{line}\n\n".encode()) == []


@pytest.mark.parametrize("line", ["<html>", 'data: {"a": ', "data: 3", f"data: {'[' * 100_000}"])
def test_a_malformed_event_says_what_came(line: str) -> None:
    with pytest.raises(Malformed, match="sent"):
        events(f"{line}\n\n".encode())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": {"message": "too long", "code": 400}}, 400),
        ({"object": "error", "message": "too long", "code": 400}, 400),
        ({"error": "too long"}, 500),
        ({"error": {"message": "too long", "code": "odd"}}, 500),
    ],
)
def test_an_error_in_place_of_an_event_is_told(body: dict[str, Any], status: int) -> None:
    with pytest.raises(ErrorEvent, match="too long") as caught:
        events(f"data: {json.dumps(body)}\n\n".encode())
    assert caught.value.status == status


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text()), st.integers(1, 9))
def test_any_object_is_an_event_however_it_is_cut(
    end: str, body: dict[str, Any], size: int
) -> None:
    body.pop("error", None)
    body.pop("object", None)
    body["apart"] = "\u2028\u2029\x85\x0c"  # ends of lines for Python, not for the standard
    data = f"\ufeffdata:{json.dumps(body, ensure_ascii=False)}{end}{end}".encode(
        "utf-8", "surrogatepass"
    )
    blocks = [data[i : i + size] for i in range(0, len(data), size)]
    assert events(*blocks) == [body]


def test_an_event_may_take_several_lines_and_end_with_the_stream() -> None:
    assert events(b'data: {"a":\ndata: 1}\n\ndata: {"b": 2}') == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_whole_answer_in_place_of_a_stream_is_one_event(indent: int | None) -> None:
    body = {"choices": [{"message": {"content": "a: b"}}], "id": "data: x"}
    assert events(json.dumps(body, indent=indent).encode()) == [body]


def test_after_done_a_stream_has_ended() -> None:
    parser = EventParser()
    assert list(parser.feed(b'data: {"a": 1}\n\ndata: [DONE]\n\n')) == [{"a": 1}]
    assert not [*parser.feed(b'data: {"a": 2}\n\n')]
    assert parser.done


def _nested(inner: Any) -> Any:
    names = st.sampled_from(["content", "delta", "text", "token_ids", "logprobs", "reasoning"])
    return st.lists(inner) | st.dictionaries(names, inner)


@given(st.recursive(st.none() | st.integers() | st.text(), _nested, max_leaves=9))
def test_no_answer_is_more_than_malformed(value: Any) -> None:
    for event in ({"choices": value}, {"choices": [value]}, {"choices": [{"delta": value}]}):
        for in_text in (True, False):
            with suppress(Malformed):
                fields.AnswerReader(in_text=in_text, k=3).read({**event, "usage": value})


@pytest.mark.parametrize(
    ("reasons", "found"),
    [
        (["", ""], None),
        ([None, "stop"], "stop"),
        ([None, "eos_token"], "eos_token"),
        (["null", None], None),
        (["stop", "length"], "length"),
    ],
)
def test_the_reason_beside_the_last_token_counts(reasons: list[Any], found: str | None) -> None:
    answer = fields.AnswerReader(in_text=True, k=0)
    for reason in reasons:
        answer.read({"choices": [{"delta": {"content": "a"}, "finish_reason": reason}]})
    assert answer.finish == found


def test_halves_of_a_character_become_whole() -> None:
    answer = fields.AnswerReader(in_text=True, k=0)
    tokens = []
    for piece in ("a\ud83d", "\ude00b", "\ude00"):
        tokens += answer.read({"choices": [{"delta": {"content": piece}}]})
    assert text_of([one.token for one in tokens]) == "a\U0001f600b\ufffd"


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
    assert text_of(TextDialect().encode(text)) == text


def test_pieces_become_a_chat_with_the_partial_answer_last() -> None:
    dialect = TextDialect()
    prompt = dialect.prompt(FreeForm(question="Why?"))
    asked = dialect.forms(FreeForm(question="Why?")).turn("Go on.")
    ids = [*prompt.tokens, *dialect.encode("Because"), END, *dialect.encode(asked)]
    roles = [one["role"] for one in chat_messages([*ids, *dialect.encode("of")])]
    assert roles == ["user", "assistant", "user", "assistant"]
    (first, answer, second, last) = chat_messages([*ids, *dialect.encode("of")])
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
