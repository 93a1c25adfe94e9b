"""What a server can do, as far as it is known."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from reasoning.backends.openai.settings import Mode
from reasoning.values.capabilities import Capability

ServerKind = Literal[
    "vllm", "sglang", "llama.cpp", "llama-cpp-python", "ollama", "transformers", "other"
]


class ServerIdentity(BaseModel):
    """What a server says that it is."""

    model_config = ConfigDict(frozen=True)

    server: ServerKind
    version: str | None
    models: tuple[str, ...]
    model: str
    context: int | None


class ServerProfile(BaseModel):
    """A server's capabilities; None is what could not be found out.

    Each was tried, unless its name says that the server only accepts it.
    """

    model_config = ConfigDict(frozen=True)

    url: str
    server: ServerKind
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
    plugin: Literal["join", "live"] | None = None
    """Which half of docs/vllm-plugin.md it runs: keys and values are shared between requests."""
    refused: tuple[str, ...] = ()
    """Common fields of requests that it does not take."""
    most_tokens: int | None = None
    """The longest answer that it allows, where it said so."""
    learnt: datetime | None = None
    """When it was last asked for more than whether it is still the same."""
    older: dict[str, datetime] = Field(default_factory=dict)
    """What it did not say then and is known from before, with the time when it was learnt."""

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
            "kv-join": self.shares(mode),
            "live-contexts": self.shares(mode) and self.plugin == "live",
            "priorities": bool(self.priorities),
            "structured-output": bool(self.structured_output),
            "json-schema": bool(self.structured_output)
            or (mode == "chat" and bool(self.json_schema)),
        }
        return frozenset(name for name, true in have.items() if true)

    @property
    def facts(self) -> dict[str, bool]:
        """What was tried and is known."""
        return self.model_dump(include=_TRIED, exclude_none=True)

    @property
    def one_at_a_time(self) -> bool:
        """Whether it breaks off an answer, without a reason, as soon as another request comes."""
        return self.server == "llama-cpp-python"

    def shares(self, mode: Mode) -> bool:
        """Whether threads' keys and values can be joined there."""
        return mode == "tokens" and self.plugin is not None

    def continues(self, mode: Mode) -> bool:
        """Whether a partial answer can be sent back to be gone on with."""
        return mode != "chat" or bool(self.chat_continuation)


_TRIED = {
    name for name, field in ServerProfile.model_fields.items() if field.annotation == bool | None
}
