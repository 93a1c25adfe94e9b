"""What a program on OpenAI's responses is promised, by their own client."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.support.serving_tools import COUNTDOWN, HARD, LONG, Server, eventually, raw_post


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_response_has_a_reasoning_item_per_branch_and_a_message(client: openai.OpenAI) -> None:
    done = client.responses.create(model="reason-5m/apr", input=COUNTDOWN)
    assert done.status == "completed"
    assert done.output_text.endswith("=50")
    *thoughts, message = done.output
    assert message.type == "message"
    branches = []
    for item in thoughts:
        assert item.type == "reasoning"
        assert item.status == "completed"
        assert item.content
        assert item.content[0].text
        branches.append((item.model_extra or {})["x_reason"]["branch"])
    assert branches[:2] == ["1", "1.1"]
    assert done.usage is not None
    extra = (done.model_extra or {})["x_reason"]
    assert extra["branches"] == len(thoughts)
    assert extra["work_tokens"] == done.usage.total_tokens
    assert done.usage.output_tokens_details.reasoning_tokens == done.usage.output_tokens


def test_the_events_of_a_stream_build_the_same_response(client: openai.OpenAI) -> None:
    with client.responses.stream(model="reason-5m/apr", input=COUNTDOWN) as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert kinds.count("response.reasoning_text.delta") > 100
    assert [event.sequence_number for event in events] == list(range(len(events)))
    whole = client.responses.create(model="reason-5m/apr", input=COUNTDOWN)
    assert final.output_text == whole.output_text

    def texts(response: Any) -> list[str]:
        return sorted(item.content[0].text for item in response.output)

    assert texts(final) == texts(whole)
    written: dict[int, str] = {}
    for event in events:
        if event.type == "response.reasoning_text.delta":
            written[event.output_index] = written.get(event.output_index, "") + event.delta
    for index, text in written.items():
        item = final.output[index]
        assert item.type == "reasoning"
        assert item.content
        assert item.content[0].text == text


def test_several_branches_stream_at_once(client: openai.OpenAI) -> None:
    stream = client.responses.create(
        model="reason-5m/self-consistency:n=4", input=COUNTDOWN, stream=True
    )
    order = [event.output_index for event in stream if event.type.endswith("reasoning_text.delta")]
    assert set(order) == {0, 1, 2, 3}
    assert sum(a != b for a, b in itertools.pairwise(order)) > 20


def test_a_conversation_may_be_given_as_items(client: openai.OpenAI) -> None:
    first = client.responses.create(model="reason-5m", input="Compute 3+4*2")
    history: list[Any] = [
        {"role": "user", "content": "Compute 3+4*2"},
        *[item.model_dump(exclude_none=True) for item in first.output],
        {"role": "user", "content": [{"type": "input_text", "text": COUNTDOWN}]},
    ]
    done = client.responses.create(model="reason-5m", input=history, instructions="Be brief.")
    assert done.output_text.endswith("=50")
    ignored = (done.model_extra or {})["x_reason"]["ignored"]
    assert ignored == ["instructions", "input[0]", "input[1]"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "web_search"}]),
        ("background", True),
        ("text", {"format": {"type": "json_object"}}),
        ("truncation", "auto"),
        ("include", ["file_search_call.results"]),
        ("conversation", "conv_1"),
    ],
)
def test_what_is_unsupported_is_refused_by_its_name(
    client: openai.OpenAI, field: str, value: object
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="reason-5m", input=COUNTDOWN, extra_body={field: value})
    assert caught.value.code == "unsupported_parameter"
    assert caught.value.param == field


@pytest.mark.parametrize(
    ("value", "param"),
    [
        (7, "input"),
        ([], "input"),
        ([{"role": "user", "content": [{"type": "input_image"}]}], "input[0].content[0].type"),
        ([{"type": "reasoning"}], "input[0].role"),
        ([{"type": "function_call", "role": "user"}], "input[0].call_id"),
    ],
)
def test_bad_input_is_told_by_its_place(server: Server, value: object, param: str) -> None:
    refused = server.post("/v1/responses", {"model": "reason-5m", "input": value})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == param


def test_a_token_limit_ends_with_an_incomplete_response(client: openai.OpenAI) -> None:
    with client.responses.stream(
        model="reason-5m/self-consistency:n=4", input=HARD, max_output_tokens=60
    ) as stream:
        kinds = [event.type for event in stream]
    assert kinds[-1] == "response.incomplete"
    done = client.responses.create(
        model="reason-5m/self-consistency:n=4", input=HARD, max_output_tokens=60
    )
    assert done.status == "incomplete"
    assert done.incomplete_details is not None
    assert done.incomplete_details.reason == "max_output_tokens"
    assert done.usage is not None
    assert done.usage.output_tokens == 4 * 60


def test_a_client_that_disconnects_stops_every_branch(server: Server) -> None:
    body = {**LONG, "input": HARD, "stream": True}
    with raw_post(server, "/v1/responses", body) as connection:
        eventually(lambda: server.metric("reason_engine_threads") >= 400)
        assert b"response.created" in connection.recv(4096)
    assert eventually(lambda: server.metric("reason_engine_threads") == 0) < 2


def test_a_response_is_kept_until_it_is_deleted(client: openai.OpenAI, server: Server) -> None:
    done = client.responses.create(model="reason-5m", input="Compute 3+4*2")
    assert client.responses.retrieve(done.id).output_text == done.output_text
    client.responses.delete(done.id)
    other = client.responses.create(model="reason-5m", input="Compute 3+4*2", store=False)
    for id in (done.id, other.id, "resp_1"):
        gone = httpx.get(f"{server.url}/v1/responses/{id}")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "response_not_found")
