"""In front of another server everything passes, and the best of several lines comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.support.rule_server import RuleServer, rule_server
from tests.support.serving_tools import Server, eventually, raw_post, serving

VOTED = "SAY: Well, \\boxed{4} || so it is \\boxed{5} || thus \\boxed{5}"
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
FORM: Any = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
def rules() -> Iterator[RuleServer]:
    with rule_server(thoughts="I think so.") as rules:
        yield rules


@pytest.fixture(scope="module")
def server(rules: RuleServer) -> Iterator[Server]:
    options = ["--plain-tokens", "20", "--plain-model", "rules/parathinker"]
    with serving("--base-url", rules.url, *options) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, text: str, model: str = "rules", **more: Any) -> Any:
    messages = more.pop("messages", None) or [{"role": "user", "content": text}]
    return client.chat.completions.create(model=model, messages=messages, **more)


def told(answer: Any) -> Any:
    return answer.model_extra["x_reason"]


# ---- the conversation, and what comes back -------------------------------------------------------


def test_a_greeting_is_answered_in_prose(client: openai.OpenAI) -> None:
    answer = ask(client, "Hello! Who are you?")
    message = answer.choices[0].message
    assert message.content == "You said: Hello! Who are you?"
    assert message.model_extra["reasoning_content"].strip() == "I think so."
    assert told(answer)["answer_source"] == "text"


def test_the_whole_conversation_reaches_the_model_as_it_is(
    client: openai.OpenAI, rules: RuleServer
) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "One, "}, image]},
        {"role": "assistant", "content": None, "tool_calls": [called()]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        {"role": "assistant", "content": "Two.", "reasoning_content": "secret"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Th"}, {"type": "text", "text": "ree"}],
        },
    ]
    answer = ask(client, "", messages=messages)
    assert answer.choices[0].message.content == "You said: Three The system says: Be brief."
    sent = rules.last["messages"]
    assert [one["role"] for one in sent] == [one["role"] for one in messages]
    assert sent[1]["content"] == messages[1]["content"]
    assert sent[2]["tool_calls"] == messages[2]["tool_calls"]
    assert sent[3] == messages[3]
    assert "secret" not in json.dumps(sent)
    assert sent[5]["content"] == "Three"


def called(city: str = "Paris") -> dict[str, Any]:
    function = {"name": "weather", "arguments": json.dumps({"city": city})}
    return {"id": "call_1", "type": "function", "function": function}


def test_no_words_are_added_to_a_question_of_several_samples(
    client: openai.OpenAI, rules: RuleServer
) -> None:
    ask(client, VOTED, "rules/self-consistency:n=3")
    for body in rules.bodies[-3:]:
        assert body["messages"] == [{"role": "user", "content": VOTED}]


def test_the_content_is_what_the_chosen_branch_said(client: openai.OpenAI) -> None:
    answer = ask(client, VOTED, "rules/self-consistency:n=3")
    assert answer.choices[0].message.content in ("so it is \\boxed{5}", "thus \\boxed{5}")
    extra = told(answer)
    assert extra["votes"] == {"5": 2, "4": 1}
    assert (extra["answer"], extra["answer_source"]) == ("5", "box")
    assert extra["branch"] in ("1", "2", "3")
    assert round(extra["confidence"], 2) == 0.67
    thoughts = answer.choices[0].message.model_extra["reasoning"]
    assert all(f"[{branch}] I think so." in thoughts for branch in "123")


def test_one_of_several_free_texts_is_chosen_and_how_is_told(client: openai.OpenAI) -> None:
    texts = ["Trees are tall plants.", "Trees have leaves.", "A tree is a woody plant."]
    question = f"SAY: {' || '.join(texts)}"
    answer = ask(client, question, "rules/self-consistency:n=3", n=3)
    assert {choice.message.content for choice in answer.choices} == set(texts)
    assert told(answer)["selected_by"] in ("usc", "medoid", "first")


@pytest.mark.parametrize("model", ["rules", "rules/self-consistency:n=3"])
@pytest.mark.parametrize("thoughts", ["all", "chosen", "none"])
def test_a_stream_says_what_the_whole_answer_says(
    client: openai.OpenAI, model: str, thoughts: str
) -> None:
    body = {"x_reason": {"thoughts": thoughts}}
    content, reasoning = "", ""
    for chunk in ask(client, VOTED, model, stream=True, extra_body=body):
        delta = chunk.choices[0].delta
        content += delta.content or ""
        reasoning += (delta.model_extra or {}).get("reasoning") or ""
    whole = ask(client, VOTED, model, extra_body=body).choices[0].message
    assert content in ("Well, \\boxed{4}", "so it is \\boxed{5}", "thus \\boxed{5}")
    assert whole.content in ("Well, \\boxed{4}", "so it is \\boxed{5}", "thus \\boxed{5}")
    told = whole.model_extra["reasoning"] or ""
    assert sorted(reasoning.split("\n\n")) == sorted(told.split("\n\n")) or model != "rules"
    assert ("[2]" in reasoning) == (thoughts == "all" and model != "rules")
    assert ("I think so." in reasoning) == (thoughts != "none") == ("I think so." in told)


def test_the_only_branch_is_streamed_as_it_writes(client: openai.OpenAI, rules: RuleServer) -> None:
    stream = ask(client, "SAY: SLOWLY now", stream=True)
    said = ""
    for chunk in stream:
        said += chunk.choices[0].delta.content or ""
        if said.count("on ") > 3:
            break
    stream.close()
    assert eventually(lambda: rules.open == 0) < 2


# ---- how tokens are drawn ------------------------------------------------------------------------


def test_sampling_parameters_and_unknown_fields_pass(
    client: openai.OpenAI, rules: RuleServer
) -> None:
    given: dict[str, Any] = {
        "temperature": 0.3,
        "top_p": 0.9,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "logit_bias": {"17": 5.0},
        "stop": ["END"],
        "seed": 4,
        "max_tokens": 77,
    }
    extra = {
        "top_k": 40,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "chat_template_kwargs": {"enable_thinking": False},
        "vllm_xargs": {"a": 1},
    }
    ask(client, "Hello", **given, extra_body=extra)
    assert {name: rules.last.get(name) for name in given | extra} == given | extra


def test_what_is_not_asked_for_is_left_to_the_server(
    client: openai.OpenAI, rules: RuleServer
) -> None:
    ask(client, "Hello")
    assert not rules.last.keys() & {"temperature", "top_p", "top_k", "stop", "tools"}


def test_max_tokens_are_those_of_one_branch_and_the_budget_those_of_all(
    client: openai.OpenAI, rules: RuleServer
) -> None:
    ask(client, VOTED, "rules/self-consistency:n=3", max_completion_tokens=50)
    assert [body["max_tokens"] for body in rules.bodies[-3:]] == [50] * 3
    body = {"x_reason": {"budget": 12}}
    answer = ask(client, "SAY: SLOWLY", "rules/self-consistency:n=3", extra_body=body)
    assert answer.choices[0].finish_reason == "length"
    assert told(answer)["cut"]
    assert answer.choices[0].message.content


@pytest.mark.parametrize(("effort", "width"), [("none", 1), ("low", 4), ("medium", 8)])
def test_effort_is_a_number_of_samples(client: openai.OpenAI, effort: Any, width: int) -> None:
    answer = ask(client, "SAY: \\boxed{1}", reasoning_effort=effort)
    assert told(answer)["width"] == width
    named = ask(client, "SAY: \\boxed{1}", "rules/self-consistency:n=2", reasoning_effort=effort)
    assert told(named)["width"] == 2


def test_several_answers_are_distinct_and_the_best_comes_first(client: openai.OpenAI) -> None:
    answer = ask(client, VOTED, n=2, extra_body={"x_reason": {"n": 3}})
    assert [choice.index for choice in answer.choices] == [0, 1]
    best, other = (choice.message.content for choice in answer.choices)
    assert "{5}" in best
    assert "{4}" in other
    with pytest.raises(openai.BadRequestError, match="n: multiverse gives one answer"):
        ask(client, VOTED, "rules/multiverse", n=2)


def test_short_requests_and_named_variants_get_one_plain_sample(client: openai.OpenAI) -> None:
    title = ask(client, VOTED, "rules/self-consistency:n=3", max_tokens=20)
    assert (told(title)["strategy"], told(title)["branches"]) == ("single", 1)
    assert told(ask(client, VOTED, "rules/parathinker"))["strategy"] == "single"


# ---- forms and tools -----------------------------------------------------------------------------


def test_a_form_is_held_by_the_server_and_voted_for_as_json(
    client: openai.OpenAI, rules: RuleServer
) -> None:
    one, same = '{"name": "Ada", "age": 36}', '{ "age": 36.0, "name": "Ada" }'
    other = '{"name": "Ada", "age": 40}'
    question = f"SAY: {other} || {one} || {same}"
    answer = ask(client, question, "rules/self-consistency:n=3", response_format=FORM)
    assert json.loads(answer.choices[0].message.content) == {"name": "Ada", "age": 36}
    assert told(answer)["votes"] == {'{"age":36,"name":"Ada"}': 2, '{"age":40,"name":"Ada"}': 1}
    assert told(answer)["verified"]
    schema = rules.last["response_format"]["json_schema"]["schema"]
    assert schema == SCHEMA


def test_objects_may_be_voted_for_field_by_field(client: openai.OpenAI) -> None:
    people = [("Ada", 36), ("Ada", 40), ("Bob", 36)]
    said = " || ".join(json.dumps({"name": name, "age": age}) for name, age in people)
    body = {"x_reason": {"vote": "fields"}}
    model = "rules/self-consistency:n=3"
    answer = ask(client, f"SAY: {said}", model, response_format=FORM, extra_body=body)
    assert json.loads(answer.choices[0].message.content) == {"name": "Ada", "age": 36}


@pytest.mark.parametrize("stream", [False, True])
def test_what_does_not_fit_the_form_is_an_error_that_says_so(
    client: openai.OpenAI, stream: bool
) -> None:
    with pytest.raises(openai.APIError, match=r"response_format: none of 2 branches"):
        list(
            ask(
                client,
                'SAY: {"name": 5} || no',
                "rules/self-consistency:n=2",
                response_format=FORM,
                stream=stream,
            )
        )


def test_a_model_of_pydantic_is_parsed(client: openai.OpenAI) -> None:
    class Person(BaseModel):
        name: str
        age: int

    messages: Any = [{"role": "user", "content": "Who?"}]
    done = client.chat.completions.parse(model="rules", messages=messages, response_format=Person)
    assert done.choices[0].message.parsed == Person(name="Paris", age=42)


@pytest.mark.parametrize("stream", [False, True])
def test_equal_calls_are_one_vote_and_the_winner_is_a_tool_call(
    client: openai.OpenAI, stream: bool
) -> None:
    said = ['weather {"city": "Rome"}', 'weather {"city": "Paris"}', 'weather { "city":"Paris" }']
    model = "rules/self-consistency:n=3"
    answer = ask(client, f"CALL: {' || '.join(said)}", model, tools=[TOOL], stream=stream)
    if not stream:
        (call,) = answer.choices[0].message.tool_calls
        assert answer.choices[0].message.content is None
        assert max(told(answer)["votes"].values()) == 2
        name, arguments, reason = (
            call.function.name,
            call.function.arguments,
            answer.choices[0].finish_reason,
        )
    else:
        name, arguments, reason = "", "", None
        for chunk in answer:
            for call in chunk.choices[0].delta.tool_calls or ():
                name += call.function.name or ""
                arguments += call.function.arguments or ""
            reason = chunk.choices[0].finish_reason or reason
    assert (name, json.loads(arguments), reason) == ("weather", {"city": "Paris"}, "tool_calls")


MISFITS = ('weather {"city": 3}', 'weather "Rome"', "weather {")


@pytest.mark.parametrize("misfit", MISFITS)
def test_calls_that_don_t_fit_their_tool_s_parameters_do_not_vote(
    client: openai.OpenAI, misfit: str
) -> None:
    said = f'CALL: {misfit} || {misfit} || weather {{"city": "Paris"}}'
    answer = ask(client, said, "rules/self-consistency:n=3,policy=sc", tools=[TOOL])
    (call,) = answer.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    assert list(told(answer)["votes"].values()) == [1]


def test_a_single_call_is_given_back_as_the_model_wrote_it(client: openai.OpenAI) -> None:
    unknown: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "odd"}}}
    for tool, said in ((TOOL, 'weather {"city": 3}'), (unknown, "f {}")):
        answer = ask(client, f"CALL: {said}", tools=[tool])
        (call,) = answer.choices[0].message.tool_calls
        assert call.function.arguments == said.partition(" ")[2]


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_was_cut_says_so_though_the_server_behind_does_not(
    client: openai.OpenAI, stream: bool
) -> None:
    answer = ask(client, 'CALL: weather {"city": "Pa', tools=[TOOL], stream=stream)
    reason = None
    for chunk in answer if stream else [answer]:
        reason = chunk.choices[0].finish_reason or reason
    assert reason == "length"


def test_rounds_of_tools_go_on_to_an_answer(client: openai.OpenAI, rules: RuleServer) -> None:
    messages: list[Any] = [{"role": "user", "content": "Weather?"}]
    choice = {"type": "function", "function": {"name": "weather"}}
    first = ask(client, "", messages=messages, tools=[TOOL], tool_choice=choice)
    assert rules.last["tool_choice"] == choice
    (call,) = first.choices[0].message.tool_calls
    messages += [
        first.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    second = ask(client, "", messages=messages, tools=[TOOL])
    assert second.choices[0].message.content == "It is sunny."


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
            "tool_choice",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "cake"}},
                }
            },
            "response_format",
        ),
        ({"logit_bias": {"word": 1}}, "logit_bias"),
        ({"logprobs": True}, "logprobs"),
        ({"extra_body": {"x_reason": {"policy": "magic"}}}, "policy"),
        ({"extra_body": {"x_reason": {"policy": "deepprune:judge=/etc"}}}, "policy"),
        ({"extra_body": {"x_reason": {"policy": "bon:scorer=http://10.0.0.1/score"}}}, "policy"),
    ],
)
def test_what_can_t_be_had_is_refused_by_its_name(
    client: openai.OpenAI, more: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, "Hello", **more)
    assert 400 <= caught.value.status_code < 500
    assert caught.value.param == param


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "strategy", "policy", "width"),
    [
        ("rules", "single", None, 1),
        ("rules:n=3", "self-consistency", "async:k=3", 3),
        ("rules/single", "single", None, 1),
        ("rules/self-consistency:n=2", "self-consistency", "async:k=2", 2),
        ("rules/self-consistency:n=2,policy=sc", "self-consistency", "sc:n=2", 2),
        (
            "rules/self-consistency:policy=async:k=3,threshold=0.9",
            "self-consistency",
            "async:k=3,threshold=0.9",
            3,
        ),
    ],
)
def test_a_name_says_strategy_width_and_policy(
    client: openai.OpenAI, name: str, strategy: str, policy: str | None, width: int
) -> None:
    extra = told(ask(client, "SAY: \\boxed{1} || \\boxed{2}", name))
    assert (extra["strategy"], extra["policy"], extra["width"]) == (strategy, policy, width)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Rulez", "does not exist; the nearest are rules, rules/"),
        ("rules/self-consistancy", "the nearest are rules/self-consistency, rules/"),
        ("rules/examples/own_strategy.py:SecondOpinion", "has no strategy"),
        ("rules/self-consistency:m=3", "has no setting 'm'"),
        ("rules/self-consistency:n=2,policy=asink", "did you mean 'async'"),
    ],
)
def test_an_unknown_name_tells_the_nearest(client: openai.OpenAI, name: str, words: str) -> None:
    with pytest.raises(openai.APIStatusError, match=words):
        ask(client, "Hello", name)


def test_what_needs_a_scorer_is_not_offered_and_names_none(client: openai.OpenAI) -> None:
    listed = {model.id for model in client.models.list()}
    assert "rules/rsa" in listed
    assert "rules/ab-mcts" not in listed
    with pytest.raises(openai.APIStatusError, match="scorers are the server's own"):
        ask(client, "Hello", "rules/ab-mcts:scorer=http://10.0.0.1/score")


@pytest.mark.parametrize("name", ["gpt-7", "some/other/model", "rule/apr", "rules/apr/2"])
def test_an_unknown_model_is_404_with_three_names(client: openai.OpenAI, name: str) -> None:
    known = {model.id for model in client.models.list()}
    for call in (lambda: ask(client, "Hello", name), lambda: client.models.retrieve(name)):
        with pytest.raises(openai.NotFoundError) as caught:
            call()
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
        told = str(caught.value.body["message"]).partition("the nearest are ")[2].split(", ")  # type: ignore[index]
        assert len(set(told)) == 3
        assert known >= set(told)


# ---- cost ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 4, 6])
def test_an_answer_that_is_cut_has_as_many_tokens_as_it_may(
    client: openai.OpenAI, most: int
) -> None:
    for name in ("rules", "rules/single"):
        answer = ask(client, "SAY: What a day", name, max_tokens=most)  # 3 words thought, 3 said
        finish = answer.choices[0].finish_reason
        assert (answer.usage.completion_tokens, finish) == (most, "length")


def test_usage_adds_up_to_what_the_server_behind_counted(client: openai.OpenAI) -> None:
    question = "SAY: What a day \\boxed{7}"
    answer = ask(client, question, "rules/self-consistency:n=4,policy=sc")
    usage = answer.usage
    prompt = len(json.dumps([{"role": "user", "content": question}]).split())
    assert usage.prompt_tokens == 4 * prompt
    assert usage.completion_tokens == 4 * (4 + 3 + 1)
    assert usage.prompt_tokens_details.cached_tokens == 3 * prompt
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_who_did_not_think_is_billed_no_thoughts(
    client: openai.OpenAI, rules: RuleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "thoughts", "")
    usage = ask(client, "SAY: Sunny").usage
    assert usage.completion_tokens == 2  # with the one that ends it
    assert usage.completion_tokens_details.reasoning_tokens == 0


def test_tokens_of_a_client_that_left_are_counted(server: Server, rules: RuleServer) -> None:
    labels = {"model": "rules", "strategy": "self-consistency"}
    before = server.metric("reason_tokens_total", kind="completion", **labels)
    body = {
        "model": "rules/self-consistency:n=4",
        "stream": True,
        "messages": [{"role": "user", "content": "SAY: SLOWLY"}],
    }
    with raw_post(server, "/v1/chat/completions", body) as connection:
        eventually(lambda: rules.open == 4)
        while b"on " not in connection.recv(1 << 16):
            pass
    assert eventually(lambda: rules.open == 0) < 2
    eventually(lambda: server.metric("reason_abandoned_total", **labels) == 1)
    after = server.metric("reason_tokens_total", kind="completion", **labels)
    assert after >= before + 4
    assert server.metric("reason_runs") == 0
    assert server.metric("reason_branches_admitted") == 0


def test_metrics_tell_width_stops_and_times(client: openai.OpenAI, server: Server) -> None:
    ask(client, "SAY: \\boxed{8}", "rules/self-consistency:n=8")
    labels = {"model": "rules", "strategy": "self-consistency"}
    for name in ("width", "queue_seconds", "first_token_seconds", "settled_seconds"):
        assert server.metric(f"reason_{name}_count", **labels) > 0, name
    runs = server.metric("reason_run_seconds_count")
    with pytest.raises(openai.NotFoundError):
        ask(client, "Hello", "nobody")
    assert server.metric("reason_run_seconds_count") == runs


# ---- other interfaces ----------------------------------------------------------------------------


def test_a_response_goes_on_from_the_one_before(client: openai.OpenAI, rules: RuleServer) -> None:
    first = client.responses.create(model="rules", input="Hello", instructions="Be brief.")
    assert first.output_text == "You said: Hello The system says: Be brief."
    second = client.responses.create(model="rules", input="And now?", previous_response_id=first.id)
    assert second.output_text == "You said: And now?"
    assert [(one["role"], one["content"]) for one in rules.last["messages"]] == [
        ("user", "Hello"),
        ("assistant", first.output_text),
        ("user", "And now?"),
    ]
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.create(model="rules", input="x", previous_response_id="resp_0")
    assert caught.value.param == "previous_response_id"


def test_a_response_calls_tools_and_takes_their_answers(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "name": "weather", **TOOL["function"]}
    first = client.responses.create(model="rules", input="Weather?", tools=[tool])
    *_, call = first.output
    assert call.type == "function_call"
    assert json.loads(call.arguments) == {"city": "Paris"}
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    second = client.responses.create(
        model="rules", input=[output], tools=[tool], previous_response_id=first.id
    )
    assert second.output_text == "It is sunny."


def test_a_streamed_response_says_its_text_in_deltas(client: openai.OpenAI) -> None:
    with client.responses.stream(model="rules/self-consistency:n=3", input=VOTED) as stream:
        events = list(stream)
    kinds = [event.type for event in events]
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said in ("so it is \\boxed{5}", "thus \\boxed{5}")
    assert kinds.index("response.reasoning_text.delta") < kinds.index("response.output_text.delta")
    assert kinds[-1] == "response.completed"


def test_a_response_is_parsed_into_a_model(client: openai.OpenAI) -> None:
    class Person(BaseModel):
        name: str
        age: int

    done = client.responses.parse(model="rules", input="Who?", text_format=Person)
    assert done.output_parsed == Person(name="Paris", age=42)


def test_anthropic_s_messages_go_through_the_same_seam(server: Server, rules: RuleServer) -> None:
    tool = {"name": "weather", "input_schema": TOOL["function"]["parameters"]}
    block = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}
    body: dict[str, Any] = {
        "model": "rules",
        "max_tokens": 100,
        "system": "Be brief.",
        "stop_sequences": ["END"],
        "tools": [tool],
        "messages": [{"role": "user", "content": "Weather?"}],
    }
    first = server.post("/v1/messages", body).json()
    assert first["stop_reason"] == "tool_use"
    assert [one["type"] for one in first["content"]] == ["thinking", "tool_use"]
    assert first["content"][1]["input"] == {"city": "Paris"}
    body["messages"] += [
        {"role": "assistant", "content": [block]},
        {"role": "user", "content": [result]},
    ]
    second = server.post("/v1/messages", body).json()
    assert second["content"][-1] == {"type": "text", "text": "It is sunny."}
    assert second["usage"]["output_tokens"] > 0
    roles = [one["role"] for one in rules.last["messages"]]
    assert roles == ["system", "user", "assistant", "tool"]
    assert (rules.last["stop"], rules.last["max_tokens"]) == (["END"], 100)
    events = [
        json.loads(line.removeprefix("data: "))
        for line in server.post("/v1/messages", body | {"stream": True}).text.splitlines()
        if line.startswith("data: ")
    ]
    assert events[0]["type"] == "message_start"
    assert events[-1]["type"] == "message_stop"
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(delta.get("text", "") for delta in deltas) == "It is sunny."
