"""How an OpenAI-compatible server is reached."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from reasoning.backends.openai.replicas.addresses import address
from reasoning.backends.settings import GeneratingSettings

Mode = Literal["tokens", "text", "chat"]
FRAMING = frozenset(
    {"connection", "content-length", "content-type", "host", "transfer-encoding", "upgrade"}
)
"""Headers by which HTTP says what a request is."""


class OpenaiSettings(GeneratingSettings):
    """Settings of the HTTP backend."""

    base_urls: tuple[str, ...] = Field(min_length=1)
    """The servers' addresses, as ``http://localhost:8000/v1``; several are replicas.  ``@FILE`` has
    one in each line and is read again when it changes; ``dns+http://NAME:8000/v1`` is every address
    of a name, looked up again now and then."""
    model: str | None = None
    """The model's name there; by default the only one, or the first."""
    tokenizer: str | None = None
    """A shipped model or folder whose tokenizer is the server's; by default, the model where its
    name is one.  With it, prompts are token ids on servers that take them."""
    mode: Mode | None = None
    """``tokens`` and ``text`` use completions, ``chat`` chat completions; by default tokens where a
    tokenizer is given and the server takes them, else chat where it has that, else text."""
    context: int | None = Field(default=None, ge=16)
    """Tokens of context; by default what the server says, or 8192."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable with the key."""
    adapters: tuple[str, ...] = ()
    """Models of the server that are LoRA adapters of ``model``."""
    max_connections: int = Field(default=256, ge=1)
    """Requests open at once at each replica; more wait, which is said."""
    proxy: str | None = None
    """By whose way all servers are reached; by default the environment's, but this machine's own
    addresses directly."""
    probe_timeout: float = Field(default=10, gt=0)
    """Seconds, as all times here: for all questions about what the server can do together.  What is
    not answered by then is unknown."""
    connect_timeout: float = Field(default=5, gt=0)
    first_token_timeout: float = Field(default=120, gt=0)
    """Until an answer's first token, waiting in the server's queue included; later, until the next
    token of a server that only sends signs of life."""
    token_timeout: float = Field(default=30, gt=0)
    """Of silence between two tokens."""
    stream: bool = True
    """Whether answers come token by token.  Without, they are asked for as a whole wherever nobody
    looks at their tokens on the way, which costs less of this machine's processor; what is stopped
    early and what is shown live streams all the same."""
    answer_timeout: float = Field(default=1800, gt=0)
    """Until a whole answer is there."""
    retries: int = Field(default=4, ge=0, le=100)
    """How often one thread's request may be lost and sent again."""
    backoff: float = Field(default=0.5, ge=0)
    """Before the first retry on the same server; doubled each time, up to 30 s.  A server that asks
    for another time gets that."""
    hedge: bool = False
    """Whether an answer that is late, or whose replica is three times slower than another, is asked
    for once more there.  Who is first counts; what the other wrote is counted as thrown away.
    Without ``stream``, one answer of each replica streams until its pace is known."""
    headers: dict[str, str] = Field(default_factory=lambda: {"x-session-id": "{thread}"})
    """Of every request, for routers that keep a session on one engine: ``{thread}`` stands for the
    thread's name, ``{problem}`` for that of the prompt that all threads of a problem share."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """More fields for every request."""

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            left = value.replace("{thread}", "").replace("{problem}", "")
            if not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.A):
                raise ValueError(f"{name!r} is no name of a header")
            if name.lower() in FRAMING:
                raise ValueError(f"{name!r} is HTTP's own; leave it out")
            if not re.fullmatch(r"[ -z|~]*", left):
                raise ValueError(f"{name}: {value!r} is not text, {{thread}} and {{problem}}")
        return headers

    @field_validator("base_urls", mode="before")
    @classmethod
    def _complete(cls, urls: Any) -> Any:
        return tuple(address(url) for url in ([urls] if isinstance(urls, str) else urls))
