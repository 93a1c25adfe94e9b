"""What a server can do, found out by asking it: a few requests of one token each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Collection
from datetime import UTC, datetime
from typing import Any, Literal

import anyio

from orchestrator.errors import InvalidValue, UnknownName, leaf
from reasoning.backends.openai.connection import SPEAKS_HTTPS, unreachable
from reasoning.backends.openai.known_servers import KnownServers
from reasoning.backends.openai.parameters import BOUNDS, Parameters, is_passing, words_of
from reasoning.backends.openai.profile import ServerIdentity, ServerProfile
from reasoning.backends.openai.reasoning_fields import text, tokens, usage
from reasoning.backends.openai.scoring import echo_request, echoed
from reasoning.backends.openai.settings import OpenaiSettings
from reasoning.errors import BackendLost
from reasoning.values.sampling import Constraint

CHAT, COMPLETIONS = "/chat/completions", "/completions"
PROMPT = [11, 12, 13, 14, 15]
WORDS = "one two three four five six seven"
WITH_IDS = {"return_token_ids": True, "logprobs": 3}
USER = {"role": "user", "content": "Compute 1 + 1"}
ASKED: dict[str, Any] = {"messages": [USER]}
OPENED = [USER, {"role": "assistant", "content": "One, two, three, four"}]
GOING_ON = {"continue_final_message": True, "add_generation_prompt": False}
LONG = 28
"""How often words are repeated for a prompt that is longer than a block of any cache."""
OWNERS = {
    "vllm": "vllm",
    "sglang": "sglang",
    "llamacpp": "llama.cpp",
    "me": "llama-cpp-python",
    "library": "ollama",
}
"""Servers by whom they call the owner of their models."""
MOST_LESSONS = 4
PLUGIN = "the plugin runs its half"
"""Our vLLM plugin says so where it refuses a note."""

Answer = dict[str, Any] | Literal[False] | None
"""A server's answer, False where it refuses the request, None where it gave none in time."""
Facts = dict[str, Any]


async def examine(
    client: Any,
    url: str,
    settings: OpenaiSettings,
    *,
    tokenizers: Collection[str] = (),
    thorough: bool = False,
) -> ServerProfile:
    """What a server is and can do, by the user's cache or by asking it for ``probe_timeout``.

    What is known from before is believed if one request confirms it.  What does not matter in the
    mode in which it will be talked to is asked only when ``thorough``; that asks everything anew,
    for three times as long, and keeps from before what is not answered in time.  ``tokenizers`` are
    models whose tokenizer is known here.

    Raises:
        BackendLost: it can't be reached, or has no mode.
        UnknownName: it does not have the model.
        InvalidValue: it refuses the key.
    """
    patience = settings.probe_timeout * (3 if thorough else 1)
    deadline = anyio.current_time() + patience
    identity = await _identify(client, url, settings)
    before = KnownServers().find(url, identity)
    server = _Asker(client, identity, _refuses_key(url, settings))
    known = settings.tokenizer is not None or identity.model in tokenizers
    found: Facts = {}
    half: str | None = None
    with anyio.CancelScope(deadline=deadline):
        if before is not None and not thorough:
            server.parameters.refused.update(before.refused)
            found |= before.facts
            if not await _is_still(server, before):
                before = None
                server.parameters.refused.clear()
                found.clear()
        await _explore(server, found, settings, known=known, thorough=thorough)
        half = await _half(server) if known and found.get("token_prompts") else None
    same = before is not None and found == before.facts and half == before.plugin
    if before is not None and same and not thorough:
        return before
    profile = _profile(url, identity, found, server, before)
    profile = profile.model_copy(update={"plugin": half})
    if found.get("chat", False) is False and found.get("completions", False) is False:
        raise BackendLost(
            f"{url} answers neither completions nor chat completions for {identity.model}; see its "
            "log, or name another --model"
        )
    KnownServers().keep(profile)
    return profile


async def _explore(
    server: _Asker, found: Facts, settings: OpenaiSettings, *, known: bool, thorough: bool
) -> None:
    """Find out what matters and is not in ``found``; where a tokenizer is ``known``, ids first."""
    fresh = not found
    in_chat, in_text = settings.mode in (None, "chat"), settings.mode != "chat"
    if known and in_text and found.get("token_prompts") is None:
        await _try_completions(server, found)
    in_tokens = known and found.get("token_prompts") and found.get("token_ids")
    if in_chat and found.get("chat") is None and (thorough or not in_tokens):
        await _try_chat(server, found)
    elif in_chat and found.get("chat") and found.get("json_schema") is None:
        await _try_schema(server, found)  # it was not answered in time before
    needed = thorough or not in_chat or found.get("chat") is False
    if needed and in_text and "completions" not in found:
        await _try_completions(server, found)
    if thorough or (fresh and (server.is_vllm or not found.get("chat"))):
        await _try_more(server, found)


def _profile(
    url: str,
    identity: ServerIdentity,
    found: Facts,
    server: _Asker,
    before: ServerProfile | None,
) -> ServerProfile:
    """What was found, and from before what was not answered now."""
    known = {name: value for name, value in found.items() if value is not None}
    older: Facts = {}
    if before is not None:
        names = before.facts.keys() - known.keys()
        older = {name: before.older.get(name, before.learnt) for name in names}
        known |= {name: before.facts[name] for name in names}
    return ServerProfile(
        url=url,
        **identity.model_dump(),
        **known,
        refused=tuple(sorted(server.parameters.refused)),
        most_tokens=None if before is None else before.most_tokens,
        learnt=datetime.now(UTC),
        older=older,
    )


async def _is_still(server: _Asker, before: ServerProfile) -> bool:
    """Whether a server takes the most telling request that it is known to take."""
    path = COMPLETIONS
    body: dict[str, Any] = {"prompt": WORDS}
    if before.chat:
        path, body = CHAT, {"messages": OPENED, **GOING_ON} if before.chat_continuation else ASKED
    elif before.token_ids:
        body = {"prompt": PROMPT, **WITH_IDS}
    elif not before.completions:
        return False
    return await server.ask(path, body) is not False


class _Asker:
    """Sends requests of one token, in the form in which the server takes them."""

    def __init__(self, client: Any, identity: ServerIdentity, refuses_key: InvalidValue) -> None:
        self._client = client
        self._model = identity.model
        self.is_vllm = identity.server == "vllm"
        self._refuses_key = refuses_key
        self.parameters = Parameters()

    async def ask(self, path: str, body: dict[str, Any]) -> Answer:
        """The answer to one request.

        Raises:
            InvalidValue: the key is refused.
        """
        from openai import APIConnectionError, APIError, APIStatusError

        body = {"model": self._model, "max_tokens": 1, "temperature": 0, **body}
        for _ in range(MOST_LESSONS):
            sent = self.parameters.fit(body)
            try:
                found = await self._client.post(path, body=sent, cast_to=object)
            except APIStatusError as error:
                status, ours = error.status_code, sent.keys() & {*BOUNDS, "temperature"}
                if status == 401 or (status == 403 and path == CHAT):
                    raise self._refuses_key from error
                if is_passing(status, words_of(error)):
                    return None
                if self.parameters.learn(ours, words_of(error), error.param):
                    continue
                return False
            except APIConnectionError:
                return None
            except (APIError, ValueError):
                return False
            return found if isinstance(found, dict) and found.get("choices") else False
        return False

    async def refusal(self, path: str, body: dict[str, Any]) -> str:
        """The words with which it refuses a request; none where it does not."""
        from openai import APIStatusError, OpenAIError

        body = self.parameters.fit({"model": self._model, "max_tokens": 1, **body})
        try:
            await self._client.post(path, body=body, cast_to=object)
        except APIStatusError as error:
            return words_of(error)
        except (OpenAIError, ValueError):
            return ""
        return ""

    async def ask_all(self, path: str, *bodies: dict[str, Any]) -> list[Answer]:
        """The answers to several requests, all asked at once."""
        return await _all(*(self.ask(path, body) for body in bodies))


async def _all(*waited: Awaitable[Answer]) -> list[Answer]:
    """Their results, of all at once."""
    results: list[Answer] = [None] * len(waited)

    async def keep(place: int, one: Awaitable[Answer]) -> None:
        results[place] = await one

    try:
        async with anyio.create_task_group() as group:
            for place, one in enumerate(waited):
                group.start_soon(keep, place, one)
    except ExceptionGroup as several:
        raise leaf(several) from several
    return results


def _refuses_key(url: str, settings: OpenaiSettings) -> InvalidValue:
    return InvalidValue(f"{url} refuses the key; set {settings.api_key_env} to a valid one")


async def _identify(client: Any, url: str, settings: OpenaiSettings) -> ServerIdentity:
    listed = await _models(client, url, settings)
    names = tuple(str(one.get("id")) for one in listed)
    model = settings.model or (names[0] if names else None)
    if model is None:
        raise UnknownName(f"{url} lists no models; name one with --model")
    if names and model not in names:
        raise UnknownName(f"{url} has no model {model!r}; choose {', '.join(names[:8])}")
    entry = next((one for one in listed if one.get("id") == model), {})
    version = None
    with anyio.move_on_after(settings.probe_timeout / 4):
        version = await _version(client, url, "/version")
    return ServerIdentity(
        server=_kind(entry, version),
        version=version,
        models=names,
        model=model,
        context=_context(entry),
    )


async def _models(client: Any, url: str, settings: OpenaiSettings) -> list[dict[str, Any]]:
    """The models that it lists; none where it has no list.

    Raises:
        BackendLost: it can't be reached, or says nothing and no model is named.
        InvalidValue: it refuses the key.
    """
    from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAIError

    page: Any = {}
    try:
        with anyio.move_on_after(settings.probe_timeout / 2) as scope:
            page = await client.get("/models", cast_to=object)
    except APITimeoutError:
        scope.cancel()
    except APIConnectionError as error:
        raise BackendLost(f"{url} {await unreachable(url, error, settings)}") from error
    except APIStatusError as error:
        status, words = error.status_code, words_of(error).lower()
        if status in (401, 403):
            raise _refuses_key(url, settings) from error
        if "plain http" in words or "http request to an https" in words:
            raise BackendLost(f"{url} {SPEAKS_HTTPS}") from error
        if settings.model is None and is_passing(status, words):
            what = f"answers {status} to the question for its models"
            raise BackendLost(f"{url} {what}; try later, or name one with --model") from error
    except (OpenAIError, ValueError):
        pass  # something else than a list
    if scope.cancel_called and settings.model is None:
        raise BackendLost(f"{url} does not answer; look at its log, or mend --base-url")
    found = page.get("data") if isinstance(page, dict) else page
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _kind(entry: dict[str, Any], version: str | None) -> Any:
    owner = str(entry.get("owned_by", ""))
    if entry.get("created") == 0 and "status" in entry:
        return "transformers"
    return OWNERS.get(owner, "vllm" if version else "other")


def _context(entry: dict[str, Any]) -> int | None:
    meta = entry.get("meta")
    more = meta if isinstance(meta, dict) else {}
    names = ("max_model_len", "context_length", "context_window", "max_context_length")
    found = [entry.get(name) for name in names] + [more.get("n_ctx_train")]
    return next((one for one in found if isinstance(one, int) and one >= 16), None)


async def _version(client: Any, url: str, path: str) -> str | None:
    from openai import OpenAIError

    root = url.rsplit("/v1", 1)[0]
    with contextlib.suppress(OpenAIError, ValueError):
        page = await client.get(f"{root}{path}", cast_to=object)
        return str(page["version"]) if isinstance(page, dict) and "version" in page else None
    return None


async def _half(server: _Asker) -> str | None:
    """Which half of our vLLM plugin answers; it is asked each time, for others ignore its notes."""
    if not server.is_vllm:
        return None
    note = {"vllm_xargs": {"reason": '{"v": 0}'}}
    said = await server.refusal(COMPLETIONS, {"prompt": PROMPT, **note})
    return next((half for half in ("live", "join") if f"{PLUGIN} {half}" in said), None)


def _is(answer: Answer, found: bool = True) -> bool | None:
    """Whether a request was answered, and something ``found`` in it; None where nobody knows."""
    return None if answer is None else bool(answer) and found


def _choice(answer: Answer) -> dict[str, Any]:
    return answer["choices"][0] if answer else {}


async def _try_completions(server: _Asker, found: Facts) -> None:
    found["completions"] = None
    plain, ids = await server.ask_all(
        COMPLETIONS, {"prompt": WORDS}, {"prompt": PROMPT, **WITH_IDS}
    )
    found["completions"] = True if ids else _is(plain)
    counted = usage(ids) if ids else None
    logprobs = _choice(ids).get("logprobs") or {}
    found |= {
        "token_prompts": _is(ids, counted is not None and counted.prompt == len(PROMPT)),
        "token_ids": _is(ids, bool(tokens(_choice(ids), 0))),
        "logprobs": _is(ids, bool(logprobs.get("token_logprobs"))),
        "top_logprobs": _is(ids, bool(logprobs.get("top_logprobs"))),
    }
    if found["completions"]:
        stops, echo = await server.ask_all(
            COMPLETIONS,
            {"prompt": WORDS, "stop_token_ids": [1]},
            echo_request(PROMPT if found["token_prompts"] else WORDS),
        )
        found |= {"stop_tokens": _is(stops), "scoring": _is(echo, _scores(echo))}


def _scores(answer: Answer) -> bool:
    with contextlib.suppress(BackendLost):
        return min(likely for _, likely in echoed(answer)[1:] if likely is not None) < 0
    return False


async def _try_more(server: _Asker, found: Facts) -> None:
    """Try a cache, seeds, priorities and forms, in whatever way it answers."""
    path = COMPLETIONS
    long: dict[str, Any] = {"prompt": PROMPT * LONG}
    if not found.get("token_prompts"):
        long = {"prompt": WORDS * LONG}
    if not found.get("completions"):
        path, long = CHAT, {"messages": [{"role": "user", "content": WORDS * LONG}]}
    if path == CHAT and not found.get("chat"):
        return
    seeded = {**long, "temperature": 1, "seed": 7}
    forced = {"structured_outputs": {"choice": ["17"]}, "max_tokens": 8}
    first, priority, form = await server.ask_all(
        path, seeded, {**long, "priority": 1}, {**long, **forced}
    )
    again = await server.ask(path, seeded)
    counted = usage(again) if again else None
    cached = None if counted is None else counted.cached
    found |= {
        "seeds": _is(first and again, text(_choice(first)) == text(_choice(again))),
        "cached_tokens": _is(again, cached is not None),
        "prefix_caching": None if cached is None else cached > 0,
        "priorities": _is(priority),
        "structured_output": _is(form, text(_choice(form))[1].strip() == "17"),
    }


async def _try_chat(server: _Asker, found: Facts) -> None:
    found["chat"] = None
    plain = await server.ask(CHAT, {**ASKED, "max_tokens": 16})
    found["chat"] = _is(plain)
    if not plain:
        return
    found["reasoning_field"] = bool(text(_choice(plain))[0])
    closed, opened = await server.ask_all(
        CHAT, {"messages": OPENED}, {"messages": OPENED, **GOING_ON}
    )
    lengths = {counted.prompt for one in (closed, opened) if one and (counted := usage(one))}
    found["chat_continuation"] = _is(closed and opened, len(lengths) == 2)
    await _try_schema(server, found)


async def _try_schema(server: _Asker, found: Facts) -> None:
    form = await server.ask(CHAT, _schema_request())
    if not (form and _choice(form).get("finish_reason") == "length"):  # it may still have come
        found["json_schema"] = _is(form, _holds_to_schema(form))


def _schema_request() -> dict[str, Any]:
    """Asks for values, and holds the answer to others, which nobody would write by himself."""
    number = {"type": "integer", "minimum": 8171, "maximum": 8171}
    word = {"type": "string", "enum": ["zxqv"]}
    words = {"type": "array", "items": word, "minItems": 1, "maxItems": 1}
    forced = {"n": number, "w": words, "e": {"type": "string", "maxLength": 0}}
    schema = {"type": "object", "properties": forced, "required": list(forced)}
    form = Constraint(kind="json", value=json.dumps(schema | {"additionalProperties": False}))
    asked = 'Write {"n": 1, "w": ["one"], "e": "two"} and nothing else.'
    messages = [{"role": "user", "content": asked}]
    return {"messages": messages, "max_tokens": 48, "response_format": form.response_format}


def _holds_to_schema(answer: Answer) -> bool:
    with contextlib.suppress(ValueError):
        return bool(json.loads(text(_choice(answer))[1]) == {"n": 8171, "w": ["zxqv"], "e": ""})
    return False
