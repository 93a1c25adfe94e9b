"""What a server can do, found out by asking it: a few requests of one token each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import anyio
from pydantic import BaseModel, ConfigDict

from orchestrator.errors import InvalidValue, UnknownName
from reasoning.backends.openai.reasoning_fields import text, tokens, usage
from reasoning.backends.openai.settings import Mode, OpenaiSettings
from reasoning.errors import BackendLost
from reasoning.values.capabilities import Capability
from reasoning.values.sampling import Constraint

PROBE_S = 30.0
PROMPT = [11, 12, 13, 14, 15]
WORDS = "one two three four five six seven"

Ask = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any] | None]]


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
    completions: bool
    chat: bool
    token_prompts: bool
    """Takes prompts as token ids, and counts them as such."""
    token_ids: bool
    """Answers with token ids."""
    logprobs: bool
    top_logprobs: bool
    stop_tokens: bool
    """Accepts stop token ids."""
    seeds: bool
    """The same seed gave the same text twice."""
    chat_continuation: bool
    """Goes on with a partial answer of the assistant."""
    cached_tokens: bool
    """Says how much of a prompt was in its cache."""
    prefix_caching: bool | None
    """A prompt that was sent twice was found in the cache; None where it does not say."""
    priorities: bool
    structured_output: bool
    json_schema: bool
    """Holds an answer in chat to a JSON schema with bounds, given as ``response_format``."""
    reasoning_field: bool
    """Sends reasoning apart from the answer."""

    @property
    def mode(self) -> Mode:
        """The best way to talk to it."""
        if self.token_prompts and self.token_ids:
            return "tokens"
        return "text" if self.completions else "chat"

    def capabilities(self, mode: Mode) -> frozenset[Capability]:
        """What a backend on this server has, in our terms."""
        have: dict[Capability, bool] = {
            "token-prompts": mode == "tokens",
            "logprobs": self.logprobs,
            "confidence": self.top_logprobs and mode == "tokens",
            "prefix-sharing": bool(self.prefix_caching),
            "priorities": self.priorities,
            "structured-output": self.structured_output,
            "json-schema": self.structured_output or (mode == "chat" and self.json_schema),
        }
        return frozenset(name for name, true in have.items() if true)

    def continues(self, mode: Mode) -> bool:
        """Whether a partial answer can be sent back to be gone on with."""
        return mode != "chat" or self.chat_continuation


@dataclass(frozen=True, kw_only=True)
class _Identity:
    server: Literal["vllm", "sglang", "llama.cpp", "ollama", "other"]
    version: str | None
    models: tuple[str, ...]
    model: str
    context: int | None


async def examine(client: Any, url: str, settings: OpenaiSettings) -> ServerProfile:
    """Ask a server what it is and try what it can.

    Raises:
        BackendLost: it can't be reached.
        UnknownName: it does not have the model.
        InvalidValue: it refuses the key.
    """
    identity = await _identify(client, url, settings)

    async def ask(path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to a request; None where the server refuses it."""
        from openai import APIError

        whole = {"model": identity.model, "max_tokens": 1, "temperature": 0, **body}
        with anyio.move_on_after(PROBE_S):
            with contextlib.suppress(APIError, ValueError):
                found = await client.post(path, body=whole, cast_to=object)
                return found if isinstance(found, dict) and found.get("choices") else None
        return None

    completions, chat = await _completions(ask), await _chat(ask)
    if not (completions["completions"] or chat["chat"]):
        raise BackendLost(
            f"{url} answers neither completions nor chat completions for {identity.model}; see its "
            "log, or name another --model"
        )
    return ServerProfile(url=url, **vars(identity), **completions, **chat)


async def _identify(client: Any, url: str, settings: OpenaiSettings) -> _Identity:
    from openai import APIConnectionError, APIStatusError

    try:
        with anyio.fail_after(settings.connect_timeout + PROBE_S):
            page = await client.get("/models", cast_to=object)
    except (APIConnectionError, TimeoutError) as error:
        raise BackendLost(f"{url} can't be reached; start the server or mend --base-url") from error
    except APIStatusError as error:
        if error.status_code in (401, 403):
            raise InvalidValue(
                f"{url} refuses the key; set {settings.api_key_env} to a valid one"
            ) from error
        page = {}
    listed = [one for one in _data(page) if isinstance(one, dict)]
    names = tuple(str(one.get("id")) for one in listed)
    model = settings.model or (names[0] if names else None)
    if model is None:
        raise UnknownName(f"{url} lists no models; name one with --model")
    if names and model not in names:
        raise UnknownName(f"{url} has no model {model!r}; choose {', '.join(names[:8])}")
    entry = next((one for one in listed if one.get("id") == model), {})
    version = await _version(client, url, "/version")
    return _Identity(
        server=_kind(entry, version),
        version=version,
        models=names,
        model=model,
        context=_context(entry),
    )


def _data(page: Any) -> list[Any]:
    found = page.get("data") if isinstance(page, dict) else None
    return found if isinstance(found, list) else []


def _kind(entry: dict[str, Any], version: str | None) -> Any:
    owner = str(entry.get("owned_by", ""))
    known = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp", "library": "ollama"}
    return known.get(owner, "vllm" if version else "other")


def _context(entry: dict[str, Any]) -> int | None:
    meta = entry.get("meta") or {}
    found = entry.get("max_model_len") or entry.get("context_length") or meta.get("n_ctx_train")
    return found if isinstance(found, int) else None


async def _version(client: Any, url: str, path: str) -> str | None:
    from openai import OpenAIError

    root = url.rsplit("/v1", 1)[0]
    with anyio.move_on_after(5), contextlib.suppress(OpenAIError, ValueError):
        page = await client.get(f"{root}{path}", cast_to=object)
        return str(page["version"]) if isinstance(page, dict) and "version" in page else None
    return None


async def _completions(ask: Ask) -> dict[str, Any]:
    path = "/completions"
    plain = await ask(path, {"prompt": WORDS})
    ids = await ask(path, {"prompt": PROMPT, "return_token_ids": True, "logprobs": 3})
    counted = usage(ids) if ids else None
    long = {"prompt": PROMPT * 60 if ids else WORDS * 60}
    await ask(path, long)
    again = await ask(path, long)
    cached = (usage(again) if again else None) or None
    choice = ids["choices"][0] if ids else {}
    logprobs = choice.get("logprobs") or {}
    drawn = [await ask(path, {"prompt": WORDS, "temperature": 1, "seed": 7}) for _ in range(2)]
    forced = {"structured_outputs": {"choice": ["17"]}, "max_tokens": 8}
    answer = await ask(path, {"prompt": WORDS, **forced})
    return {
        "completions": plain is not None or ids is not None,
        "token_prompts": counted is not None and counted.prompt == len(PROMPT),
        "token_ids": bool(ids and tokens(choice, 0)),
        "logprobs": bool(logprobs.get("token_logprobs")),
        "top_logprobs": bool(logprobs.get("top_logprobs")),
        "stop_tokens": await ask(path, {"prompt": WORDS, "stop_token_ids": [1]}) is not None,
        "seeds": None not in drawn and len({text(one["choices"][0]) for one in drawn if one}) == 1,
        "cached_tokens": cached is not None and cached.cached is not None,
        "prefix_caching": None if cached is None or cached.cached is None else cached.cached > 0,
        "priorities": await ask(path, {"prompt": WORDS, "priority": 1}) is not None,
        "structured_output": answer is not None and text(answer["choices"][0])[1].strip() == "17",
    }


async def _chat(ask: Ask) -> dict[str, Any]:
    path = "/chat/completions"
    user = {"role": "user", "content": "Say one."}
    begun = [user, {"role": "assistant", "content": "One, two, three, four"}]
    plain = await ask(path, {"messages": [user], "max_tokens": 16})
    if plain is None:
        lacks = ("chat", "chat_continuation", "json_schema", "reasoning_field")
        return dict.fromkeys(lacks, False)
    on = {"continue_final_message": True, "add_generation_prompt": False}
    closed, opened = (
        await ask(path, {"messages": begun}),
        await ask(path, {"messages": begun, **on}),
    )
    lengths = [found and usage(found) for found in (closed, opened)]
    prompts = [one.prompt for one in lengths if one]
    return {
        "chat": True,
        "chat_continuation": len(prompts) == 2 and prompts[0] != prompts[1],
        "json_schema": await _holds_to_schema(ask),
        "reasoning_field": bool(text(plain["choices"][0])[0]),
    }


async def _holds_to_schema(ask: Ask) -> bool:
    """Whether it writes what nobody would who was not made to."""
    number = {"type": "integer", "minimum": 8171, "maximum": 8171}
    word = {"type": "string", "enum": ["zxqv"]}
    words = {"type": "array", "items": word, "minItems": 1, "maxItems": 1}
    forced = {"n": number, "w": words, "e": {"type": "string", "maxLength": 0}}
    schema = {"type": "object", "properties": forced, "required": list(forced)}
    form = Constraint(kind="json", value=json.dumps(schema | {"additionalProperties": False}))
    user = {"role": "user", "content": "Say one."}
    body = {"messages": [user], "max_tokens": 80, "response_format": form.response_format}
    answer = await ask("/chat/completions", body)
    with contextlib.suppress(ValueError):
        said = json.loads(text(answer["choices"][0])[1]) if answer else None
        return bool(said == {"n": 8171, "w": ["zxqv"], "e": ""})
    return False
