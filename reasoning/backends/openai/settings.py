"""How an OpenAI-compatible server is reached."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from reasoning.backends.settings import BackendSettings

Mode = Literal["tokens", "text", "chat"]


class OpenaiSettings(BackendSettings):
    """Settings of the HTTP backend."""

    base_urls: tuple[str, ...] = Field(min_length=1)
    """The servers' addresses, as ``http://localhost:8000/v1``; several are replicas."""
    model: str | None = None
    """The model's name there; by default the only one, or the first."""
    tokenizer: str | None = None
    """A shipped model or folder whose tokenizer is the server's; by default, the model where its
    name is one.  With it, prompts are token ids on servers that take them."""
    mode: Mode | None = None
    """``tokens`` and ``text`` use completions, ``chat`` chat completions; by default what the
    server can, in this order."""
    context: int | None = Field(default=None, ge=16)
    """Tokens of context; by default what the server says, or 8192."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable with the key."""
    adapters: tuple[str, ...] = ()
    """Models of the server that are LoRA adapters of ``model``."""
    max_connections: int = Field(default=256, ge=1)
    """Requests open at once, over all replicas; more wait."""
    connect_timeout: float = Field(default=5, gt=0)
    """Seconds; so are the others."""
    first_token_timeout: float = Field(default=120, gt=0)
    """Until an answer begins, waiting in the server's queue included."""
    token_timeout: float = Field(default=30, gt=0)
    """Between two tokens."""
    retries: int = Field(default=4, ge=0, le=100)
    """How often one thread's request may be lost and sent again."""
    backoff: float = Field(default=0.5, ge=0)
    """Before the first retry on the same server; doubled each time, up to 30 s."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """More fields for every request."""

    @field_validator("base_urls", mode="before")
    @classmethod
    def _complete(cls, urls: Any) -> Any:
        return tuple(_address(url) for url in ([urls] if isinstance(urls, str) else urls))


def _address(url: str) -> str:
    """The address with its scheme and without a trailing slash; ``/v1`` where it has no path."""
    url = url.rstrip("/")
    if "://" not in url:
        url = f"http://{url}"
    scheme, _, rest = url.partition("://")
    if scheme not in ("http", "https") or not rest:
        raise ValueError(f"{url!r} is no http address")
    return url if "/" in rest else f"{url}/v1"
