"""What a server can do, found out by asking it: a few requests of one token each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Collection
from dataclasses import dataclass
from typing import Any, Literal

import anyio
from pydantic import BaseModel, ConfigDict

from orchestrator.errors import InvalidValue, UnknownName, leaf
from reasoning.backends.openai.connection import SPEAKS_HTTPS, unreachable
from reasoning.backends.openai.parameters import BOUNDS, Parameters, words_of
from reasoning.backends.openai.reasoning_fields import text, tokens, usage
from reasoning.backends.openai.replicas import AGAIN
from reasoning.backends.openai.scoring import echo_request, echoed
from reasoning.backends.openai.settings import Mode, OpenaiSettings
from reasoning.errors import BackendLost
from reasoning.values.capabilities import Capability
from reasoning.values.sampling import Constraint

CHAT, COMPLETIONS = "/chat/completions", "/completions"
PROMPT = [11, 12, 13, 14, 15]
WORDS = "one two three four five six seven"
MOST_LESSONS = 4

Answer = dict[str, Any] | Literal[False] | None
"""A server's answer, False where it refuses the request, None where it gave none in time."""
Facts = dict[str, bool | None]


class ServerProfile(BaseModel):
    """A server's capabilities; None is what could not be found out.

    Each was tried, unless its name says that the server only accepts it.
    """

    model_config = ConfigDict(frozen=True)

    url: str
    server: Literal["vllm", "sglang", "llama.cpp", "ollama", "other"]
    version: str | None
    model: str
    models: tuple[str, ...]
    context: int | None
    completions: bool | None = None
    chat: bool | None = None
    token_prompts: bool | None = None
    """Takes prompts as token ids, and counts them as such."""
    token_ids: bool | None = None
    """Answers with token ids."""
    logprobs: bool | None = None
    top_logprobs: bool | None = None
    scoring: bool | None = None
    """Says how likely a given prompt is (``echo``)."""
    stop_tokens: bool | None = None
    """Accepts stop token ids."""
    seeds: bool | None = None
    """The same seed gave the same text twice."""
    chat_continuation: bool | None = None
    """Goes on with a partial answer of the assistant."""
    cached_tokens: bool | None = None
    """Says how much of a prompt was in its cache."""
    prefix_caching: bool | None = None
    """A prompt that was sent twice was found in the cache."""
    priorities: bool | None = None
    structured_output: bool | None = None
    json_schema: bool | None = None
    """Holds an answer in chat to a JSON schema with bounds, given as ``response_format``."""
    reasoning_field: bool | None = None
    """Sends reasoning apart from the answer."""
    refused: tuple[str, ...] = ()
    """Common fields of requests that it does not take."""

    def mode(self, *, tokenizer: bool) -> Mode:
        """The best way to talk to it, where its ``tokenizer`` is known here or not."""
        if tokenizer and self.token_prompts and self.token_ids:
            return "tokens"
        return "text" if self.chat is False else "chat"

    def capabilities(self, mode: Mode) -> frozenset[Capability]:
        """What a backend on this server has, in our terms."""
        have: dict[Capability, bool] = {
            "token-prompts": mode == "tokens",
            "logprobs": bool(self.logprobs) and mode != "chat",
            "scoring": bool(self.scoring) and mode != "chat",
            "confidence": bool(self.top_logprobs) and mode == "tokens",
            "prefix-sharing": bool(self.prefix_caching) and self.continues(mode),
            "priorities": bool(self.priorities),
            "structured-output": bool(self.structured_output),
            "json-schema": bool(self.structured_output)
            or (mode == "chat" and bool(self.json_schema)),
        }
        return frozenset(name for name, true in have.items() if true)

    def continues(self, mode: Mode) -> bool:
        """Whether a partial answer can be sent back to be gone on with."""
        return mode != "chat" or bool(self.chat_continuation)


@dataclass(frozen=True, kw_only=True)
class _Identity:
    server: Literal["vllm", "sglang", "llama.cpp", "ollama", "other"]
    version: str | None
    models: tuple[str, ...]
    model: str
    context: int | None


async def examine(
    client: Any,
    url: str,
    settings: OpenaiSettings,
    *,
    tokenizers: Collection[str] = (),
    thorough: bool = False,
) -> ServerProfile:
    """Ask a server what it is and try what it can, within the settings' ``probe_timeout``.

    What does not matter in the mode in which it will be talked to is tried only when ``thorough``.
    ``tokenizers`` are models whose tokenizer is known here.

    Raises:
        BackendLost: it can't be reached, or has no mode.
        UnknownName: it does not have the model.
        InvalidValue: it refuses the key.
    """
    deadline = anyio.current_time() + settings.probe_timeout
    identity = await _identify(client, url, settings)
    server = _Asker(client, identity.model, _refuses_key(url, settings))
    found: Facts = {}
    with anyio.CancelScope(deadline=deadline):
        known = settings.tokenizer is not None or identity.model in tokenizers
        in_chat, in_text = settings.mode in (None, "chat"), settings.mode != "chat"
        if in_text and (known or not in_chat or thorough):
            await _try_completions(server, found)
        in_tokens = known and found.get("token_prompts") and found.get("token_ids")
        if in_chat and (thorough or not in_tokens):
            await _try_chat(server, found, more=identity.server == "vllm")
        if in_text and "completions" not in found and not found["chat"]:
            await _try_completions(server, found)
    if found.get("chat", False) is False and found.get("completions", False) is False:
        raise BackendLost(
            f"{url} answers neither completions nor chat completions for {identity.model}; see its "
            "log, or name another --model"
        )
    refused = tuple(sorted(server.parameters.refused))
    return ServerProfile.model_validate({"url": url, **vars(identity), **found, "refused": refused})


class _Asker:
    """Sends requests of one token, in the form in which the server takes them."""

    def __init__(self, client: Any, model: str, refuses_key: InvalidValue) -> None:
        self._client = client
        self._model = model
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
                if status >= 500 or status in AGAIN:
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


async def _identify(client: Any, url: str, settings: OpenaiSettings) -> _Identity:
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
    return _Identity(
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
        if settings.model is None and (status >= 500 or status in AGAIN):
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
    known = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp", "library": "ollama"}
    return known.get(owner, "vllm" if version else "other")


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


def _is(answer: Answer, found: bool = True) -> bool | None:
    """Whether a request was answered, and something ``found`` in it; None where nobody knows."""
    return None if answer is None else bool(answer) and found


def _choice(answer: Answer) -> dict[str, Any]:
    return answer["choices"][0] if answer else {}


async def _try_completions(server: _Asker, found: Facts) -> None:
    found["completions"] = None
    more = {"return_token_ids": True, "logprobs": 3}
    plain, ids = await server.ask_all(COMPLETIONS, {"prompt": WORDS}, {"prompt": PROMPT, **more})
    found["completions"] = True if ids else _is(plain)
    counted = usage(ids) if ids else None
    logprobs = _choice(ids).get("logprobs") or {}
    found |= {
        "token_prompts": _is(ids, counted is not None and counted.prompt == len(PROMPT)),
        "token_ids": _is(ids, bool(tokens(_choice(ids), 0))),
        "logprobs": _is(ids, bool(logprobs.get("token_logprobs"))),
        "top_logprobs": _is(ids, bool(logprobs.get("top_logprobs"))),
    }
    if not found["completions"]:
        return
    long: list[int] | str = PROMPT * 60 if ids else WORDS * 60
    await _try_more(server, COMPLETIONS, {"prompt": long}, found)
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


async def _try_more(server: _Asker, path: str, long: dict[str, Any], found: Facts) -> None:
    """Try a cache, seeds, priorities and forms."""
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


async def _try_chat(server: _Asker, found: Facts, *, more: bool) -> None:
    user = {"role": "user", "content": "Say one."}
    begun = [user, {"role": "assistant", "content": "One, two, three, four"}]
    found["chat"] = None
    plain = await server.ask(CHAT, {"messages": [user], "max_tokens": 16})
    found["chat"] = _is(plain)
    if not plain:
        return
    found["reasoning_field"] = bool(text(_choice(plain))[0])
    on = {"continue_final_message": True, "add_generation_prompt": False}
    closed, opened, form = await server.ask_all(
        CHAT, {"messages": begun}, {"messages": begun, **on}, _schema_request()
    )
    lengths = {counted.prompt for one in (closed, opened) if one and (counted := usage(one))}
    found["chat_continuation"] = _is(closed and opened, len(lengths) == 2)
    found["json_schema"] = _is(form, _holds_to_schema(form))
    if more and "structured_output" not in found:
        long = {"role": "user", "content": WORDS * 60}
        await _try_more(server, CHAT, {"messages": [long]}, found)


def _schema_request() -> dict[str, Any]:
    """Asks for what nobody would write who was not made to."""
    number = {"type": "integer", "minimum": 8171, "maximum": 8171}
    word = {"type": "string", "enum": ["zxqv"]}
    words = {"type": "array", "items": word, "minItems": 1, "maxItems": 1}
    forced = {"n": number, "w": words, "e": {"type": "string", "maxLength": 0}}
    schema = {"type": "object", "properties": forced, "required": list(forced)}
    form = Constraint(kind="json", value=json.dumps(schema | {"additionalProperties": False}))
    user = {"role": "user", "content": "Say one."}
    return {"messages": [user], "max_tokens": 80, "response_format": form.response_format}


def _holds_to_schema(answer: Answer) -> bool:
    with contextlib.suppress(ValueError):
        return bool(json.loads(text(_choice(answer))[1]) == {"n": 8171, "w": ["zxqv"], "e": ""})
    return False
