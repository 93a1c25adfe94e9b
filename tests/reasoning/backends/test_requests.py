"""What a server is sent and gives back beside text: conversations, sampling, calls of tools."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reasoning import Solution
from reasoning.backends.openai.settings import OpenaiSettings
from reasoning.errors import CapabilityMissing
from reasoning.values.conversation import Conversation, ToolCall
from tests.reasoning.backends.test_openai_servers import asked
from tests.support.scripted_chat import WHOLE, Refusal, Script, ScriptedChat

pytestmark = pytest.mark.anyio

TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "?"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
    {"role": "tool", "content": "3", "tool_call_id": "1"},
]
TOOL = {"type": "function", "function": {"name": "f"}}


async def single(chat: ScriptedChat, **how: Any) -> Solution:
    return await asked(chat, how={"strategy": "single", **how})


async def test_messages_tools_and_knobs_arrive_as_they_are() -> None:
    chat = ScriptedChat()
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    talk = [*TALK[:1], {"role": "user", "content": [{"type": "text", "text": "?"}, image]}]
    knobs = {"temperature": 0.3, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "frequency_penalty": 0.5}
    await single(
        chat,
        **knobs,
        conversation=Conversation.of([*talk, *TALK[2:]], tools=(TOOL,)),
        instruction="",
        thinking=False,
        effort="low",
        chat_template_kwargs={"x": 1},
        stop=["END", "STOP"],
        logit_bias={7: -5},
        max_new_tokens=9,
        extra_body={"user": "me"},
    )
    body = chat.streamed[0]
    question = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}
    assert body["messages"] == [TALK[0], question, *TALK[2:]]
    assert body["tools"] == [TOOL]
    assert {name: body[name] for name in knobs} == knobs
    assert body["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False, "x": 1}
    assert (body["reasoning_effort"], body["stop"], body["logit_bias"], body["user"]) == (
        *("low", ["END", "STOP"], {"7": -5}, "me"),
    )
    assert body["max_tokens"] == 9


async def test_what_nobody_said_is_the_servers_own() -> None:
    chat = ScriptedChat()
    await single(chat, instruction="")
    assert chat.streamed[0].keys() == {
        *("model", "stream", "messages", "stream_options", "seed", "max_tokens"),
    }
    assert chat.streamed[0]["messages"] == [{"role": "user", "content": "What is it?"}]


async def test_routers_are_told_which_requests_are_one_thread_s() -> None:
    chat = ScriptedChat()
    await asked(chat, how={"policy": "sc:n=4"})
    assert len(set(chat.sessions)) == 4
    assert len({name.partition("-")[0] for name in chat.sessions}) == 1
    lost = ScriptedChat(answers=[(503, "busy"), Script()])
    await asked(lost, how={"strategy": "single"})
    assert len(lost.sessions) == 2
    assert len(set(lost.sessions)) == 1
    plain = ScriptedChat()
    await asked(plain, how={"policy": "sc:n=2"}, headers={"x-session-id": "of {problem}"})
    assert len(set(plain.sessions)) == 1


@pytest.mark.parametrize("headers", [{"a b": "x"}, {"a": "x\n"}, {"a": "{branch}"}, {"Host": "x"}])
def test_headers_that_can_t_be_sent_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="headers"):
        OpenaiSettings(base_urls=("http://here",), headers=headers)


@pytest.mark.parametrize(
    ("how", "streams"),
    [
        ({"policy": "sc:n=8"}, 0),
        ({"strategy": "single"}, 0),
        ({"policy": "async:k=8"}, 8),
        ({"policy": "sc:n=8", "listener": lambda event: None}, 8),
    ],
)
async def test_whole_answers_are_asked_for_where_nobody_looks_at_tokens(
    how: dict[str, Any], streams: int
) -> None:
    chat = ScriptedChat()
    solution = await asked(chat, how=how, stream=False)
    assert len(chat.streamed) == streams
    steered = solution.report().steering
    if steered is not None:
        assert steered.timing_dependent == how["policy"].startswith("async")
    if not streams:
        votes = how.get("policy", "n=1")[-1]
        assert solution.votes == {"1": int(votes)}
        assert [thread.text for thread in solution.threads] == [WHOLE] * int(votes)
        assert solution.usage.completion_tokens == 7 * int(votes)


async def test_a_whole_answer_that_never_comes_is_given_up_in_time() -> None:
    def refuse(body: dict[str, Any]) -> Refusal | None:
        chat.silent = "What is it?" in body["messages"][-1]["content"]
        return (500, "try again") if chat.silent else None

    chat = ScriptedChat(refuse=refuse)
    solution = await asked(chat, stream=False, answer_timeout=0.2, retries=1)
    assert solution.answer is None
    assert "was silent" in solution.errors[0]


async def test_samples_of_a_server_that_may_be_greedy_differ() -> None:
    chat = ScriptedChat()
    await asked(chat, how={"policy": "sc:n=2"})
    assert [body["temperature"] for body in chat.streamed] == [0.7, 0.7]


async def test_a_parameter_that_is_refused_is_said_to_be_ignored() -> None:
    def refuse(body: dict[str, Any]) -> Refusal | None:
        refused = [name for name in ("min_p", "chat_template_kwargs") if name in body]
        return (400, f"Unrecognized request argument: {refused[0]}") if refused else None

    chat = ScriptedChat(refuse=refuse)
    solution = await single(chat, min_p=0.1, top_p=0.5, thinking=True)
    assert solution.answer == "42"
    assert solution.ignored == ("chat_template_kwargs", "min_p")
    assert solution.to_dict()["ignored"] == ["chat_template_kwargs", "min_p"]
    assert chat.streamed[0]["top_p"] == 0.5


@pytest.mark.parametrize("seeded", [True, False])
async def test_what_is_asked_again_without_a_seed_is_timing_dependent(seeded: bool) -> None:
    lost = [(503, "busy")]

    def refuse(body: dict[str, Any]) -> Refusal | None:
        if "seed" in body and not seeded:
            return 400, "Unrecognized request argument: seed"
        return lost.pop() if lost and body.get("stream") else None

    chat = ScriptedChat(refuse=refuse)
    solution = await single(chat, temperature=0.7)
    assert solution.answer == "42"
    assert not lost
    assert solution.emulated == (() if seeded else ("timing-dependent",))
    assert solution.ignored == (() if seeded else ("seed",))


async def test_a_stop_text_ends_an_answer_across_its_events() -> None:
    chat = ScriptedChat(answers=[Script(chunks=("one ", "tw", "o thr", "ee", " END of"))])
    solution = await single(chat, stop="three EN", answer="text")
    assert solution.final_text == "one two"
    assert solution.threads[0].text == "one two "
    assert not solution.threads[0].cut


async def test_the_calls_of_an_answer_are_put_together_and_vote() -> None:
    def events(*pieces: dict[str, Any]) -> Script:
        deltas = [{"choices": [{"delta": {"tool_calls": [piece]}}]} for piece in pieces]
        last = {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}
        lines = "".join(f"data: {json.dumps(one)}\n\n" for one in (*deltas, last))
        return Script(raw=f"{lines}data: [DONE]\n\n".encode())

    def call(id: str, *arguments: str) -> Script:
        head = {"index": 0, "id": id, "function": {"name": "f", "arguments": ""}}
        rest = [{"index": 0, "function": {"arguments": one}} for one in arguments]
        return events(head, *rest)

    chat = ScriptedChat(answers=[call("a", '{"x"', ": 1}"), call("b", '{ "x": 1 }'), Script()])
    talk = Conversation(tools=(TOOL,))
    solution = await asked(chat, how={"policy": "sc:n=3", "conversation": talk})
    assert solution.answer_source == "calls"
    assert solution.tool_calls in [
        (ToolCall(id="a", name="f", arguments='{"x": 1}'),),
        (ToolCall(id="b", name="f", arguments='{ "x": 1 }'),),
    ]
    assert sorted(solution.votes.values()) == [1, 2]
    assert solution.to_dict()["tool_calls"][0]["function"]["name"] == "f"


async def test_a_server_that_is_asked_in_text_gets_turns_in_plain_words() -> None:
    from reasoning.backends.text_tokens import TextDialect, text_of

    dialect = TextDialect().within(Conversation.of(TALK[:2]), instruction="")
    assert text_of(dialect.ask("Why?").tokens) == "System: Be brief.\n\nUser: Why?\n\nAssistant:"
    assert dialect.emulated == {"plain-chat"}
    with pytest.raises(CapabilityMissing, match="tool_calls"):
        TextDialect().within(Conversation.of(TALK))
    with pytest.raises(CapabilityMissing, match="mode=chat"):
        TextDialect().within(Conversation(tools=(TOOL,)))
