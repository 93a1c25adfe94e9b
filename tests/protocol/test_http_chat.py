"""What a chat program is promised: OpenAI's chat completions, by their own client."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.support.serving_tools import COUNTDOWN, HARD, LONG, Server, chat, eventually, raw_post


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def asking(text: str = COUNTDOWN) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_every_strategy_on_every_model_is_listed_as_a_model(client: openai.OpenAI) -> None:
    names = {model.id for model in client.models.list()}
    assert names >= {
        "reason-5m",
        "reason-5m/single",
        "reason-5m/self-consistency",
        "reason-5m/apr",
    }
    assert client.models.retrieve("reason-5m/apr").id == "reason-5m/apr"
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.models.retrieve("gpt-7")


def test_the_answer_is_the_content_and_the_branches_are_the_reasoning(
    client: openai.OpenAI,
) -> None:
    done = client.chat.completions.create(model="reason-5m/apr", messages=asking())
    (choice,) = done.choices
    assert choice.finish_reason == "stop"
    assert choice.message.content is not None
    assert choice.message.content.endswith("=50")
    thoughts = choice.message.model_extra or {}
    assert thoughts["reasoning"] == thoughts["reasoning_content"]
    assert thoughts["reasoning"].startswith("[1] ")
    assert "\n\n[1.1] " in thoughts["reasoning"]


def test_usage_is_the_sum_over_every_hidden_call(client: openai.OpenAI) -> None:
    one = client.chat.completions.create(model="reason-5m/single", messages=asking())
    many = client.chat.completions.create(
        model="reason-5m/self-consistency:n=5", messages=asking(), temperature=0.7
    )
    assert one.usage is not None
    assert many.usage is not None
    assert many.usage.completion_tokens > 2 * one.usage.completion_tokens
    assert many.usage.total_tokens == many.usage.prompt_tokens + many.usage.completion_tokens
    extra = (many.model_extra or {})["x_reason"]
    assert extra["branches"] == 5
    assert extra["work_tokens"] == many.usage.total_tokens
    assert 0 < extra["span_tokens"] < extra["work_tokens"]
    assert sum(extra["votes"].values()) <= 5


def test_the_same_seed_gives_the_same_tokens(client: openai.OpenAI) -> None:
    def thoughts(seed: int) -> str:
        done = client.chat.completions.create(
            model="reason-5m/self-consistency:n=3",
            messages=asking(),
            temperature=1,
            seed=seed,
            extra_body={"x_reason": {"context": 64}},
        )
        return str((done.choices[0].message.model_extra or {})["reasoning"])

    assert thoughts(1) == thoughts(1) != thoughts(2)


def test_a_stream_has_thoughts_first_then_the_answer_then_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="reason-5m/apr",
        messages=asking(),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    kinds = [
        "thought" if (delta.model_extra or {}).get("reasoning") else "answer"
        for delta in deltas
        if delta.content or (delta.model_extra or {}).get("reasoning")
    ]
    assert [kind for kind, _ in itertools.groupby(kinds)] == ["thought", "answer"]
    assert kinds.count("thought") > 100  # token by token
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas).endswith("=50")
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-2:] == [None, "stop"]
    *_, last = chunks
    assert last.choices == []
    assert last.usage is not None
    whole = client.chat.completions.create(model="reason-5m/apr", messages=asking())
    assert last.usage == whole.usage


def test_streamed_thoughts_read_branch_by_branch(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="reason-5m/self-consistency:n=4", messages=asking(), stream=True
    )
    text, labelled = "", {}
    for chunk in stream:
        piece = chunk.choices[0].delta.model_extra or {}
        if "reasoning" in piece:
            text += piece["reasoning"]
            branch = (chunk.model_extra or {})["x_reason"]["branch"]
            labelled[branch] = labelled.get(branch, "") + piece["reasoning"]
    assert set(labelled) == {"1", "2", "3", "4"}
    for branch, words in labelled.items():
        assert words.strip().startswith(f"[{branch}] ")
    whole = client.chat.completions.create(
        model="reason-5m/self-consistency:n=4", messages=asking()
    )
    thoughts = str((whole.choices[0].message.model_extra or {})["reasoning"])
    assert by_branch(text) == by_branch(thoughts)


def by_branch(thoughts: str) -> dict[str, list[str]]:
    """The words of each branch in labelled thoughts, however often they turn to it."""
    found: dict[str, list[str]] = {}
    for block in thoughts.split("\n\n"):
        label, *words = block.split()
        found.setdefault(label, []).extend(words)
    return found


def test_interleaved_thoughts_come_as_they_are_written(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="reason-5m/self-consistency:n=4",
        messages=asking(),
        stream=True,
        extra_body={"x_reason": {"interleave": True}},
    )
    order = [
        (chunk.model_extra or {})["x_reason"]["branch"]
        for chunk in stream
        if "reasoning" in (chunk.choices[0].delta.model_extra or {})
    ]
    switches = len(list(itertools.groupby(order)))
    assert set(order) == {"1", "2", "3", "4"}
    assert switches > 20


def test_the_first_thought_comes_long_before_the_end(client: openai.OpenAI) -> None:
    started = time.monotonic()
    stream = client.chat.completions.create(
        model="reason-5m/self-consistency:n=6",
        messages=asking(HARD),
        stream=True,
        temperature=1,
        extra_body={"x_reason": {"context": 128}},
    )
    first = None
    for chunk in stream:
        if first is None and "reasoning" in (chunk.choices[0].delta.model_extra or {}):
            first = time.monotonic() - started
    assert first is not None
    assert first < (time.monotonic() - started) / 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("logprobs", True),
        ("top_logprobs", 5),
        ("response_format", {"type": "json_object"}),
        ("chat_template_kwargs", {"enable_thinking": False}),
        ("web_search_options", {}),
        ("audio", {"voice": "alloy"}),
    ],
)
def test_what_is_unsupported_is_refused_by_its_name(
    client: openai.OpenAI, field: str, value: object
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="reason-5m", messages=asking(), extra_body={field: value}
        )
    assert caught.value.code == "unsupported_parameter"
    assert caught.value.param == field
    assert field in caught.value.message


def test_values_that_ask_for_nothing_are_taken(client: openai.OpenAI) -> None:
    nothing: dict[str, Any] = {
        "n": 1,
        "tools": [],
        "tool_choice": "auto",
        "logprobs": False,
        "stop": None,
        "top_p": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "logit_bias": {},
        "response_format": {"type": "text"},
        "store": False,
        "user": "me",
        "metadata": {"a": "b"},
    }
    done = client.chat.completions.create(model="reason-5m", messages=asking(), extra_body=nothing)
    assert done.choices[0].message.content


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"model": None}, "model", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "hello"}, "messages", "invalid_value"),
        ({"messages": [{"role": "cook", "content": "x"}]}, "messages[0].role", "invalid_value"),
        (
            {"messages": [{"role": "assistant", "content": "x"}]},
            "messages[0].role",
            "invalid_value",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
            "invalid_value",
        ),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"colour": "red"}, "colour", "unknown_parameter"),
        ({"x_reason": {"n": 0}}, "x_reason.n", "invalid_value"),
        ({"x_reason": {"m": 0}}, "x_reason.m", "unknown_parameter"),
        ({"model": "reason-5m/single", "x_reason": {"n": 2}}, "n", "invalid_value"),
    ],
)
def test_bad_input_is_told_by_the_name_of_its_field(
    server: Server, change: dict[str, Any], param: str, code: str
) -> None:
    refused = server.post("/v1/chat/completions", chat() | change)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert error["message"].startswith(f"{param}: ")
    assert error["type"] == "invalid_request_error"


def test_what_can_t_be_done_is_told_before_a_stream_begins(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(model="gpt-7", messages=asking(), stream=True)
    for text in ("Use 1, 1, 1 and 1 to make 99", "Who wrote this?"):
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            client.chat.completions.create(
                model="reason-5m/apr", messages=asking(text), stream=True
            )
        assert caught.value.code == "problem_refused"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"x" * ((1 << 20) + 1), "application/json", 413),
    ],
)
def test_a_body_that_is_no_request_is_refused(
    server: Server, body: bytes, kind: str, status: int
) -> None:
    refused = httpx.post(
        f"{server.url}/v1/chat/completions", content=body, headers={"Content-Type": kind}
    )
    assert refused.status_code == status
    assert set(refused.json()["error"]) == {"message", "type", "param", "code"}


def test_a_shipped_model_reads_the_question_alone_and_that_is_said(client: openai.OpenAI) -> None:
    history: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Compute 1+1"}]},
        {"role": "assistant", "content": "2", "reasoning_content": "…"},
    ]
    done = client.chat.completions.create(model="reason-5m", messages=history + asking())
    assert done.choices[0].message.content
    assert done.choices[0].message.content.endswith("=50")
    ignored = (done.model_extra or {})["x_reason"]["ignored"]
    assert ignored == ["messages[0]", "messages[1]", "messages[2]"]


def test_a_token_limit_is_each_branch_s_own(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(
        model="reason-5m/self-consistency:n=8",
        messages=asking(HARD),
        max_completion_tokens=20,
    )
    assert done.choices[0].finish_reason == "length"
    assert done.choices[0].message.content
    assert done.usage is not None
    assert done.usage.completion_tokens == 8 * 20


def test_a_budget_holds_for_all_branches_together(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(
        model="reason-5m/self-consistency:n=8",
        messages=asking(HARD),
        extra_body={"x_reason": {"budget": 100}},
    )
    assert done.choices[0].finish_reason == "length"
    assert done.usage is not None
    assert 100 <= done.usage.completion_tokens < 200  # with what was on its way
    assert (done.model_extra or {})["x_reason"]["cut"]


def test_a_time_limit_answers_with_what_there_is(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(
        model="reason-5m/self-consistency:n=500",
        messages=asking(HARD),
        temperature=1,
        extra_body={"x_reason": {"timeout": 0.3}},
    )
    assert done.choices[0].finish_reason == "length"
    assert (done.model_extra or {})["x_reason"]["status"] == "timed-out"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_disconnects_stops_every_branch(server: Server, stream: bool) -> None:
    before = server.metric("reason_disconnected_total")
    body = chat(HARD, **LONG, stream=stream)
    with raw_post(server, "/v1/chat/completions", body) as connection:
        eventually(lambda: server.metric("reason_engine_threads") >= 400)
        if stream:
            assert b"200 OK" in connection.recv(4096)
    took = eventually(lambda: server.metric("reason_engine_threads") == 0)
    assert took < 2
    eventually(lambda: server.metric("reason_runs") == 0, within=2)  # its cost is counted first
    assert server.metric("reason_disconnected_total") == before + 1
    leaked = server.metric("reason_engine_leaked_tokens")
    time.sleep(0.3)
    assert server.metric("reason_engine_leaked_tokens") == leaked  # nothing is generated any more


def test_metrics_count_requests_tokens_and_answers(server: Server) -> None:
    labels = {"variant": "reason-5m/apr"}
    before = [
        server.metric("reason_tokens_total", **labels),
        server.metric("reason_answers_total", **labels, verdict="verified"),
        server.metric("reason_requests_total", endpoint="chat", status="200"),
    ]
    used = server.post("/v1/chat/completions", chat()).json()["usage"]["total_tokens"]
    assert server.metric("reason_tokens_total", **labels) == before[0] + used
    assert server.metric("reason_answers_total", **labels, verdict="verified") == before[1] + 1
    assert server.metric("reason_requests_total", endpoint="chat", status="200") == before[2] + 1


def test_other_paths_and_methods_are_refused_in_the_same_shape(server: Server) -> None:
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
    ):
        refused = httpx.request(method, f"{server.url}{path}")
        assert refused.status_code == status
        assert set(refused.json()["error"]) == {"message", "type", "param", "code"}


def test_the_stream_is_plain_server_sent_events(server: Server) -> None:
    with httpx.stream(
        "POST", f"{server.url}/v1/chat/completions", json=chat(stream=True), timeout=60
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        *lines, last = [line for line in response.iter_lines() if line]
    assert last == "data: [DONE]"
    for line in lines:
        assert json.loads(line.removeprefix("data: "))["object"] == "chat.completion.chunk"
