"""What was learnt of a server is kept for the next command, and believed only while it is true."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reasoning import Reasoner
from reasoning.backends.openai import known_servers
from reasoning.backends.openai.profile import ServerProfile
from reasoning.errors import BackendLost
from reasoning.models.server import ServerSource
from tests.support.completions_server import read, reply, served
from tests.support.scripted_chat import ScriptedChat

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(known_servers, "user_cache", lambda: tmp_path)
    return tmp_path / "servers"


async def profile(url: str, **settings: Any) -> ServerProfile:
    model = await ServerSource(base_urls=(url,), **settings).connect()
    return model.backend.profile


def kept(cache: Path) -> Path:
    (file,) = cache.iterdir()
    return file


async def test_the_next_command_asks_only_whether_it_is_still_so(cache: Path) -> None:
    chat = ScriptedChat(continues=True)
    async with chat.running() as url:
        first = await profile(url)
        asked = chat.probes
        second = await profile(url)
    assert second == first
    assert first.chat_continuation
    assert chat.probes - asked == 3 < asked  # its models, its version, and one question
    assert kept(cache).stat().st_mode & 0o77 == 0


async def test_what_a_busy_server_did_not_answer_is_asked_again() -> None:
    chat = ScriptedChat()
    chat.refuse = lambda body: (503, "busy") if "response_format" in body else None
    async with chat.running() as url:
        assert (await profile(url)).json_schema is None
        chat.refuse = lambda body: None
        assert (await profile(url)).json_schema is False
        asked = chat.probes
        assert (await profile(url)).json_schema is False
        assert chat.probes - asked == 3


async def test_no_address_and_no_key_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    async with ScriptedChat().running() as url:
        await profile(url.replace("http://", "http://user:word@"))
    text = kept(cache).read_text()
    assert "127.0.0.1" not in text
    assert not {"sk-secret", "word@"} & set(text.split('"'))


@pytest.mark.parametrize("harm", ["", "{", "[]", '{"chat": 3}', "\0" * 99, None])
async def test_a_corrupt_cache_is_as_none(cache: Path, harm: str | None) -> None:
    async with ScriptedChat().running() as url:
        first = await profile(url)
        if harm is None:
            kept(cache).unlink()
            kept_at = cache
            kept_at.rmdir()
            kept_at.write_text("a file in place of the folder")
        else:
            kept(cache).write_text(harm)
        again = await profile(url)
    assert again.model_dump(exclude={"learnt"}) == first.model_dump(exclude={"learnt"})


async def test_what_was_learnt_expires(cache: Path) -> None:
    chat = ScriptedChat()
    async with chat.running() as url:
        await profile(url)
        asked = chat.probes
        file = kept(cache)
        old = (datetime.now(UTC) - timedelta(days=8)).isoformat()
        file.write_text(json.dumps(json.loads(file.read_text()) | {"learnt": old}))
        await profile(url)
    assert chat.probes == 2 * asked


def files(cache: Path) -> int:
    return len(list(cache.iterdir()))


async def test_another_server_at_the_same_address_is_asked_anew(cache: Path) -> None:
    chat = ScriptedChat(continues=True)
    async with chat.running() as url:
        assert (await profile(url)).chat_continuation
        chat.continues = False
        chat.refuse = lambda body: (400, "no") if "continue_final_message" in body else None
        found = await profile(url)
        assert found.chat_continuation is False
        chat.models = ({"id": "other"},)
        assert (await profile(url)).model == "other"
    assert files(cache) == 2


async def test_what_a_run_learns_of_fields_and_limits_is_kept() -> None:
    def refuse(body: dict[str, Any]) -> tuple[int, str] | None:
        if "seed" in body:
            return 400, "Unsupported parameter: seed"
        if body.get("max_tokens", 0) > 64:
            return 400, "max_tokens is too large: at most 64 tokens are allowed"
        return None

    chat = ScriptedChat(refuse=refuse)
    async with chat.running() as url:
        for _ in range(2):
            chat.streamed.clear()
            model = await ServerSource(base_urls=(url,)).connect()
            async with Reasoner(model) as reasoner:
                solution = await reasoner.solve("What is it?", temperature=1.0)
            assert solution.answer == "42"
        found = await profile(url)
    assert (found.refused, found.most_tokens) == (("seed",), 64)


async def test_a_silent_server_keeps_what_is_known_with_its_age(cache: Path) -> None:
    chat = ScriptedChat(continues=True)
    async with chat.running() as url:
        first = await profile(url)
        chat.silent = True
        source = ServerSource(base_urls=(url,), probe_timeout=0.2)
        again = await source.examine(thorough=True)
        assert (again.chat, again.chat_continuation) == (True, True)
        assert again.older["chat"] == first.learnt
        assert (await source.examine()).chat


async def test_a_tokenizer_is_not_left_out_because_a_server_is_busy() -> None:
    """Its first answer to token ids is that it is busy; the next command asks again."""
    busy = [True]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/v1/models":
            return await reply(send, 200, {"data": [{"id": "m"}]})
        if scope["path"] != "/v1/completions":
            return await reply(send, 404, {"error": {"message": "no such path"}})
        prompt = json.loads(await read(receive))["prompt"]
        if busy and not isinstance(prompt, str):
            busy.pop()
            return await reply(send, 503, {"error": {"message": "busy"}})
        choice = {"text": "a", "token_ids": [5], "finish_reason": "length"}
        usage = {"prompt_tokens": len(prompt), "completion_tokens": 1}
        return await reply(send, 200, {"choices": [choice], "usage": usage})

    async with served(app) as port:
        source = ServerSource(base_urls=(f"127.0.0.1:{port}",), tokenizer="native-2m")
        with pytest.raises(BackendLost, match="did not say in time whether it takes token ids"):
            await source.connect()
        model = await source.connect()
    assert model.backend.mode == "tokens"
