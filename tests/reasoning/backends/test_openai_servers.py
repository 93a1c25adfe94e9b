"""Servers as they are: how they end, refuse, limit, delay and fail, on real sockets."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.errors import InvalidValue, ReasonError
from reasoning import Reasoner, Solution
from reasoning.backends.openai.connection import is_loopback
from reasoning.backends.openai.settings import OpenaiSettings
from reasoning.errors import BackendLost
from reasoning.models.server import ServerSource
from tests.support.completions_server import served
from tests.support.scripted_chat import Refusal, Script, ScriptedChat

pytestmark = pytest.mark.anyio

FAST: dict[str, Any] = {"backoff": 0.01, "connect_timeout": 2.0, "first_token_timeout": 5.0}
SINGLE: dict[str, Any] = {"strategy": "single"}
EIGHT: dict[str, Any] = {"policy": "sc:n=8"}


async def asked(
    chat: ScriptedChat, question: str = "What is it?", how: dict[str, Any] = SINGLE, **more: Any
) -> Solution:
    async with chat.running() as url:
        try:
            model = await ServerSource(base_urls=(url,), **{**FAST, **more}).connect()
            async with Reasoner(model) as reasoner:
                with anyio.fail_after(20):
                    return await reasoner.solve(question, **how)
        except ReasonError as error:
            caught = error  # raised where no task group wraps it
    raise caught


@pytest.mark.parametrize(
    "script",
    [
        Script(unfinished=""),
        Script(unfinished="null"),
        Script(finish="eos_token"),
        Script(finish=None),
        Script(finish=None, done=False),
        Script(finish=None, usage=None),
        Script(finish=None, ends=False),
        Script(usage=None, done=False),
        Script(usage={"completion_tokens": None, "prompt_tokens": "many"}),
        Script(chunks=("so\u2028it is", " \\boxed{4", "2}")),
        Script(delay_s=1.5),
        Script(raw=b'{"choices": [{"message": {"content": "\\\\boxed{42}"}}]}'),
    ],
)
async def test_however_an_answer_ends_it_is_read_from_one_request(script: Script) -> None:
    chat = ScriptedChat(answers=[script])
    if script.raw is not None:
        script.raw = b"data: " + script.raw  # a whole message as the only event
    solution = await asked(chat, token_timeout=1.0)
    assert (solution.answer, solution.errors) == ("42", ())
    assert len(chat.streamed) == 1


async def test_an_ended_answer_does_not_wait_long_for_its_usage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reasoning.backends.openai.client.LATE_S", 0.2)
    ends = Script(usage=None, done=False, ends=False)
    goes_on = Script(chunks=("so \\boxed{4", "2}"), unfinished="null", delay_s=0.5, pause_s=0.5)
    chat = ScriptedChat(answers=[ends, goes_on])
    for _ in range(2):
        assert (await asked(chat)).answer == "42"
    assert len(chat.streamed) == 2


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ((400, "filtered by the content policy"), "content policy"),
        ((404, "gone"), "gone"),
        ((422, "no"), "refuses the request"),
        ((403, "not you"), "refuses the key"),
        (Script(chunks=["I"], finish="content_filter"), "content_filter"),
        (Script(chunks=["I"], finish="SAFETY"), "safety"),
        (Script(raw=b"data: nonsense\n\n"), "malformed"),
        (Script(raw=b'data: {"choices": [7]}\n\n'), "malformed"),
        (Script(raw=b'data: {"error": {"message": "out of memory"}}\n\n'), "out of memory"),
        (Script(chunks=["I"], finish="error"), "error"),
    ],
)
async def test_a_sample_that_fails_costs_its_own_vote_alone(
    bad: Script | Refusal, words: str
) -> None:
    good = [Script()] * 7
    solution = await asked(ScriptedChat(answers=[good[0], bad, *good[1:]]), how=EIGHT, retries=0)
    assert solution.votes == {"42": 7}
    (error,) = solution.errors
    assert words in error
    assert "127.0.0.1" in error


async def test_what_breaks_off_behind_its_answer_votes_and_is_named() -> None:
    broken = Script(raw=b"".join([*Script(done=False, finish=None).events(), b"data: {\n\n"]))
    solution = await asked(ScriptedChat(answers=[broken]), how=EIGHT)
    assert solution.votes == {"42": 8}
    assert len(solution.errors) == 1


async def test_a_run_fails_by_name_when_nothing_is_left() -> None:
    solution = await asked(ScriptedChat(answers=[(400, "never")]), how=EIGHT)
    assert solution.answer is None
    assert all(thread.lost for thread in solution.threads)
    (error,) = solution.errors
    assert "never" in error


REFUSED = {
    "max_tokens": "Unsupported parameter: 'max_tokens' is not supported with this model. "
    "Use 'max_completion_tokens' instead.",
    "temperature": "Unsupported value: 'temperature' does not support 0.7 with this model.",
    "seed": "Unrecognized request argument supplied: seed",
    "stream_options": "[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options'), "
    "'msg': 'Extra inputs are not permitted'}]",
}


@pytest.mark.parametrize("names", [*((name,) for name in REFUSED), tuple(REFUSED)])
async def test_a_refused_field_is_left_out_and_remembered(names: tuple[str, ...]) -> None:
    refusals = 0

    def refuse(body: dict[str, Any]) -> Refusal | None:
        nonlocal refusals
        name = next((one for one in names if one in body), None)
        refusals += name is not None and bool(body.get("stream"))
        return None if name is None else (400, REFUSED[name])

    chat = ScriptedChat(refuse=refuse)
    solution = await asked(chat, how={"policy": "sc:n=4"}, max_connections=1)
    assert (solution.votes, solution.errors) == ({"42": 4}, ())
    assert refusals <= len(names)
    bound = "max_completion_tokens" if "max_tokens" in names else "max_tokens"
    assert all(body[bound] > 1000 for body in chat.streamed)


async def test_a_first_request_refused_without_a_reason_is_sent_plainest() -> None:
    plain = {"model", "messages", "stream", "temperature", "max_tokens"}
    chat = ScriptedChat(refuse=lambda body: None if body.keys() <= plain else (400, "bad request"))
    assert (await asked(chat)).answer == "42"


async def test_a_form_that_is_refused_is_never_left_out() -> None:
    chat = ScriptedChat(refuse=lambda body: (400, "stop is not supported") if "x" in body else None)
    solution = await asked(chat, extra_body={"x": 1})
    assert solution.answer is None
    assert "not supported" in solution.errors[0]


CONTEXT = 4096


def _used(body: dict[str, Any]) -> int:
    return sum(len(one["content"].encode()) + 20 for one in body["messages"])


LIMITS = """\
This model's maximum context length is {limit} tokens. However, you requested {total} tokens \
({used} in the messages, {want} in the completion). Please reduce the length.
'max_tokens' or 'max_completion_tokens' is too large: {want}. This model's maximum context length \
is {limit} tokens and your request has {used} input tokens ({want} > {limit} - {used}).
Requested token count exceeds the model's maximum context length of {limit} tokens. You requested \
a total of {total} tokens: {used} tokens from the input messages and {want} for the completion.
`inputs` tokens + `max_new_tokens` must be <= {limit}. Given: {used} and {want} `max_new_tokens`
maximum context length is {limit} tokens, you requested {total}
input length and max_tokens exceed context limit: {used} + {want} > {limit}
the request exceeds the available context size"""


@pytest.mark.parametrize("words", LIMITS.splitlines())
@pytest.mark.parametrize("told", [{"max_model_len": CONTEXT}, {}], ids=["told", "not told"])
async def test_a_limit_is_learnt_from_the_servers_own_error(
    words: str, told: dict[str, int]
) -> None:
    def refuse(body: dict[str, Any]) -> Refusal | None:
        used, want = _used(body), body["max_tokens"]
        numbers = {"limit": CONTEXT, "used": used, "want": want, "total": used + want}
        return None if used + want <= CONTEXT else (400, words.format(**numbers))

    chat = ScriptedChat(refuse=refuse, models=[{"id": "m", **told}])
    solution = await asked(chat, "素数は無限に存在することを証明してください。", EIGHT)
    assert (solution.votes, solution.errors) == ({"42": 8}, ())
    assert all(body["max_tokens"] > 500 for body in chat.streamed)


@pytest.mark.parametrize(
    "words",
    [
        "max_tokens is too large: {want}. This model supports at most 2000 completion tokens",
        "Invalid max_tokens value, the valid range of max_tokens is [1, 2000]",
        "max_tokens must be less than or equal to 2000",
    ],
)
async def test_the_longest_answer_is_learnt_once(words: str) -> None:
    refused = 0

    def refuse(body: dict[str, Any]) -> Refusal | None:
        nonlocal refused
        too_long = body["max_tokens"] > 2000
        refused += too_long
        return (400, words.format(want=body["max_tokens"])) if too_long else None

    chat = ScriptedChat(refuse=refuse)
    solution = await asked(chat, how=EIGHT, max_connections=1)
    assert solution.votes == {"42": 8}
    assert refused == 1
    assert all(1990 < body["max_tokens"] <= 2000 for body in chat.streamed)


async def test_no_question_is_refused_because_its_length_is_guessed() -> None:
    chat = ScriptedChat(models=[{"id": "m", "max_model_len": 256}])
    solution = await asked(chat, "antidisestablishmentarianism " * 60, EIGHT)
    assert solution.votes == {"42": 8}
    assert all(body["max_tokens"] == 64 for body in chat.streamed)


async def test_a_silent_server_is_unknown_and_not_no() -> None:
    chat = ScriptedChat(silent=True)
    async with chat.running() as url:
        with anyio.fail_after(3):
            model = await ServerSource(base_urls=(url,), probe_timeout=0.5).connect()
        assert (model.backend.profile.chat, model.backend.mode) == (None, "chat")
        chat.silent = False
        async with Reasoner(model) as reasoner:
            assert (await reasoner.solve("What is it?")).answer == "42"


async def test_a_server_that_lists_nothing_in_time_is_named() -> None:
    async def mute(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async with served(mute) as port:
        settings = ServerSource(base_urls=(f"127.0.0.1:{port}",), probe_timeout=0.4)
        with anyio.fail_after(3):
            with pytest.raises(BackendLost, match=f"{port}/v1 does not answer"):
                await settings.connect()
            named = await settings.model_copy(update={"model": "m"}).connect()
    assert (named.name, named.backend.mode) == ("m", "chat")


async def test_the_first_address_may_be_down() -> None:
    async with ScriptedChat().running() as url:
        urls = ("http://127.0.0.1:1", url)
        model = await ServerSource(base_urls=urls, **FAST).connect()
        async with Reasoner(model) as reasoner:
            solution = await reasoner.solve("What is it?", policy="sc:n=8")
    assert (solution.votes, solution.errors) == ({"42": 8}, ())


async def test_a_server_is_asked_only_a_few_things() -> None:
    chat = ScriptedChat()
    await asked(chat)
    assert chat.probes <= 7
    assert "messages" in chat.streamed[0]  # chat is asked in chat, though nobody said so


async def test_a_busy_server_is_not_taken_for_one_without_chat() -> None:
    busy = True
    chat = ScriptedChat(refuse=lambda body: (503, "loading") if busy else None)
    async with chat.running() as url:
        model = await ServerSource(base_urls=(url,)).connect()
    assert model.backend.profile.chat is None


async def test_the_command_ends_in_time_and_names_the_silent_server() -> None:
    async with ScriptedChat(silent=True).running() as url:
        command = [sys.executable, "-m", "reasoning", "solve", "Why?", "--timeout", "1"]
        with anyio.fail_after(20):
            done = await anyio.run_process([*command, "--base-url", url], check=False)
    assert done.returncode == 1
    assert f"{url} wrote nothing in 1 s" in done.stderr.decode()


async def test_another_mode_is_taken_only_where_it_is_asked_for() -> None:
    chat = ScriptedChat()
    async with chat.running() as url:
        with pytest.raises(BackendLost, match="neither"):
            await ServerSource(base_urls=(url,), mode="text").connect()


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("localhost:8000", "http://localhost:8000/v1"),
        ("[::1]:80", "http://[::1]:80/v1"),
        ("http://[::1]:80/v1/", "http://[::1]:80/v1"),
        ("::1", "http://[::1]/v1"),
        (" HTTPS://a/v1/chat/completions\n", "https://a/v1"),
        ("https://a/openai/v1", "https://a/openai/v1"),
    ],
)
def test_addresses_are_taken_as_people_write_them(given: str, address: str) -> None:
    assert OpenaiSettings(base_urls=(given,)).base_urls == (address,)


@pytest.mark.parametrize("given", ["ftp://a", "http://", "a:b", "http://[::1"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="address"):
        OpenaiSettings(base_urls=(given,))


@pytest.mark.parametrize(
    ("url", "own"),
    [
        *(("http://127.0.0.9:1/v1", True), ("http://[::1]/v1", True), ("http://localhost", True)),
        *(("http://10.0.0.1/v1", False), ("http://localhost.example.org", False)),
    ],
)
def test_which_addresses_are_this_machines_own(url: str, own: bool) -> None:
    assert is_loopback(url) is own


async def test_proxies_of_the_environment_are_not_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    assert (await asked(ScriptedChat())).answer == "42"
    with pytest.raises(BackendLost, match=r"by the proxy http://127\.0\.0\.1:9"):
        await asked(ScriptedChat(), proxy="http://127.0.0.1:9")
    with pytest.raises(BackendLost, match=r"by the proxy http://127\.0\.0\.1:9"):
        await ServerSource(base_urls=("http://nowhere.invalid",), connect_timeout=1).connect()
    with pytest.raises(InvalidValue, match="proxy gopher"):
        await asked(ScriptedChat(), proxy="gopher://a")


async def test_keys_are_stripped_and_odd_ones_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("sk-abc\n", " sk-abc\r\n", "\ufeffsk-abc"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        chat = ScriptedChat()
        assert (await asked(chat)).answer == "42"
        assert chat.keys == {"Bearer sk-abc"}
    for key in ("sk abc", "sk-\u2014", "sk\nabc"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(InvalidValue, match="key in OPENAI_API_KEY"):
            await asked(ScriptedChat())


async def test_a_key_that_only_questions_need_is_asked_for_by_name() -> None:
    with pytest.raises(InvalidValue, match="set OPENAI_API_KEY"):
        await asked(ScriptedChat(refuse=lambda body: (401, "who are you")))


async def test_http_and_https_are_told_apart(tmp_path: Path) -> None:
    async with ScriptedChat().running() as url:
        secure = url.replace("http:", "https:")
        with pytest.raises(BackendLost, match="speaks http, not https"):
            await ServerSource(base_urls=(secure,)).connect()
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost".split()  # noqa: SIM905
    await anyio.run_process([*made, "-keyout", str(key), "-out", str(cert)])
    async with served(ScriptedChat(), ssl_keyfile=key, ssl_certfile=cert) as port:
        with pytest.raises(BackendLost, match="speaks https, not http"):
            await ServerSource(base_urls=(f"http://127.0.0.1:{port}",)).connect()
        with pytest.raises(BackendLost, match="certificate"):
            await ServerSource(base_urls=(f"https://127.0.0.1:{port}",)).connect()


LLAMA = {"id": "m", "owned_by": "me", "object": "model"}
TRANSFORMERS = {"id": "m", "owned_by": "local", "created": 0, "status": {"value": "loaded"}}


async def test_a_server_that_writes_one_answer_at_a_time_is_asked_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    chat = ScriptedChat(models=[LLAMA], answers=[Script(delay_s=0.05)])
    solution = await asked(chat, how={"policy": "sc:n=8"})
    assert solution.votes == {"42": 8}
    assert chat.most_streams == 1
    assert "one answer at a time" in caplog.text


@pytest.mark.parametrize("again", ["so it is \\boxed{42}", "it is \\boxed{42}", "so"])
async def test_an_answer_that_nobody_can_go_on_with_is_asked_for_again(again: str) -> None:
    broken = Script(chunks=["so ", "it "], finish=None, usage=None, done=False)
    broken = Script(raw=b"".join(broken.events()) + b"data: {\n\n")
    chat = ScriptedChat(answers=[broken, Script(chunks=list(again))])
    solution = await asked(chat, retries=3)
    (thread,) = solution.threads
    first, second = chat.streamed
    assert first == second  # with its seed
    if again.startswith("so it"):
        assert (thread.text, solution.answer, solution.errors) == (again, "42", ())
    else:
        assert thread.text == "so it "
        assert solution.answer is None
        assert solution.errors[0].count("asked for again it was another") == 1


async def test_an_answer_that_gave_way_to_another_is_lost_by_name() -> None:
    broken = Script(chunks=["The answer"], finish=None)
    chat = ScriptedChat(models=[LLAMA], answers=[broken, *[Script()] * 7])
    solution = await asked(chat, how={"policy": "sc:n=8"})
    assert solution.votes == {"42": 7}
    assert "for another request" in solution.errors[0]


async def test_a_malformed_request_is_no_failure_that_passes() -> None:
    words = "1 validation error: {'loc': ('body', 'seed'), 'msg': 'Input should be absent'}"
    chat = ScriptedChat(refuse=lambda body: (500, words) if "seed" in body else None)
    solution = await asked(chat, how={"policy": "sc:n=8"})
    assert solution.votes == {"42": 8}


async def test_transformers_serve_is_made_to_draw() -> None:
    chat = ScriptedChat(models=[TRANSFORMERS])
    await asked(chat, how={"policy": "sc:n=8", "temperature": 0.5})
    forms = {body["generation_config"] for body in chat.streamed}
    assert [json.loads(one) for one in forms] == [{"do_sample": True, "temperature": 0.5}]
    chat.streamed.clear()
    await asked(chat, how={"strategy": "single", "temperature": 0.0})
    assert "generation_config" not in chat.streamed[0]
