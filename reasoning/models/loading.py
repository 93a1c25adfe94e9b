"""Models on other backends than the embedded engine, and one way to load any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import anyio

from orchestrator.errors import InvalidValue
from reasoning.backends.base import Backend
from reasoning.backends.settings import EmbeddedSettings, parse
from reasoning.engine.config import ModelConfig, read_config
from reasoning.errors import CapabilityMissing
from reasoning.language.dialects import Dialect, MarkupDialect, load_dialect
from reasoning.models.catalog import Model, find, shipped
from reasoning.values.capabilities import Capability

if TYPE_CHECKING:
    from reasoning.backends.openai.client import OpenaiBackend
    from reasoning.backends.openai.server_probe import ServerProfile
    from reasoning.backends.openai.settings import OpenaiSettings
    from reasoning.backends.vllm.backend import VllmBackend
    from reasoning.backends.vllm.settings import VllmSettings

BackendName = Literal["embedded", "vllm", "openai"]
CONTEXT = 8192
"""Tokens of context of a server that does not say."""
BACKENDS: tuple[BackendName, ...] = ("embedded", "vllm", "openai")


class AnyModel(Protocol):
    """A model with its language, on some backend."""

    @property
    def name(self) -> str: ...

    @property
    def dialect(self) -> Dialect: ...

    @property
    def context(self) -> int:
        """The most tokens that a thread may see."""
        ...

    @property
    def shipped(self) -> bool:
        """Whether it speaks our markup."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the model and the backend can do together."""
        ...

    def backend(self) -> Backend:
        """A backend with this model, to be entered with ``async with``."""
        ...


@dataclass(frozen=True, kw_only=True)
class HttpModel:
    """A model on OpenAI-compatible servers, spoken to in what they can do."""

    dialect: Dialect
    profile: ServerProfile
    settings: OpenaiSettings
    _backend: OpenaiBackend = field(repr=False)

    @classmethod
    async def connect(cls, settings: OpenaiSettings) -> HttpModel:
        """Ask the first server what it can do, and choose how to talk to it.

        Raises:
            BackendLost: it can't be reached.
            UnknownName: it does not have the model.
            CapabilityMissing: it can't do what the settings ask for.
        """
        from reasoning.backends.openai.client import connect
        from reasoning.backends.openai.server_probe import examine

        url = settings.base_urls[0]
        async with connect(url, settings) as client:
            return cls.of(settings, await examine(client, url, settings))

    @classmethod
    def of(cls, settings: OpenaiSettings, profile: ServerProfile) -> HttpModel:
        """A model on servers of which it is known what they can do."""
        from reasoning.backends.openai.client import OpenaiBackend
        from reasoning.backends.text_tokens import TextDialect, TextTokens

        url = settings.base_urls[0]
        tokenizer = settings.tokenizer or (profile.model if profile.model in shipped() else None)
        mode = settings.mode or (profile.mode if tokenizer or profile.mode != "tokens" else "text")
        dialect: Dialect
        text_tokens = TextTokens()
        eos: frozenset[int] = frozenset()
        if mode == "tokens":
            if tokenizer is None or profile.mode != "tokens":
                raise CapabilityMissing(
                    f"mode tokens needs a server that takes and gives token ids ({url}: "
                    f"{profile.mode}) and --engine tokenizer=PATH"
                )
            folder = find(tokenizer)
            config = read_config(folder)
            dialect, eos = load_dialect(folder, config), config.eos
        else:
            dialect = TextDialect(text_tokens)
        context = settings.context or profile.context or CONTEXT
        backend = OpenaiBackend(
            settings,
            profile,
            mode=mode,
            eos=eos,
            context=min(context, profile.context or context),
            text_tokens=text_tokens,
        )
        return cls(dialect=dialect, profile=profile, settings=settings, _backend=backend)

    @property
    def name(self) -> str:
        return self.profile.model

    @property
    def context(self) -> int:
        return self._backend.context

    @property
    def shipped(self) -> bool:
        return isinstance(self.dialect, MarkupDialect)

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self.dialect.capabilities | self._backend.capabilities

    def backend(self) -> OpenaiBackend:
        return self._backend


@dataclass(frozen=True, kw_only=True)
class VllmModel:
    """A model folder on vLLM, in a process of its own; the engine starts with the backend."""

    name: str
    config: ModelConfig
    dialect: Dialect
    folder: Path
    settings: VllmSettings
    _backend: VllmBackend = field(repr=False)

    @classmethod
    def load(
        cls, model: str | Path | None = None, settings: VllmSettings | None = None
    ) -> VllmModel:
        """A shipped model by name, or any folder; by default the larger shipped one.

        Raises:
            ModelUnusable: there is no such model, or its folder can't be used.
        """
        from reasoning.backends.vllm.backend import VllmBackend
        from reasoning.backends.vllm.settings import VllmSettings

        folder = find(model)
        config = read_config(folder)
        settings = settings or VllmSettings()
        kind = VllmBackend
        if settings.plugin is not None:
            from reasoning.vllm_plugin.backend import SharedVllmBackend as kind
        return cls(
            name=folder.name,
            config=config,
            dialect=load_dialect(folder, config),
            folder=folder,
            settings=settings,
            _backend=kind(folder, config, settings),
        )

    @property
    def context(self) -> int:
        return min(self.config.context, self.settings.context or self.config.context)

    @property
    def shipped(self) -> bool:
        return self.config.markup is not None

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self.dialect.capabilities | self._backend.capabilities

    def backend(self) -> VllmBackend:
        return self._backend


def load(
    model: str | Path | None = None,
    *,
    backend: str | None = None,
    base_urls: Sequence[str] = (),
    settings: Sequence[str] = (),
) -> AnyModel:
    """A model on any backend, as the command line names it.

    Args:
        model: A shipped model, a Hugging Face folder, or a model's name on a server.
        backend: One of `BACKENDS`; by default ``openai`` with a URL and ``embedded`` without.
        base_urls: An OpenAI-compatible server's address; several are replicas of each other.
        settings: ``NAME=VALUE`` pairs, the backend's own.

    Raises:
        InvalidValue: the arguments don't fit each other.
        ReasonError: by its leaf, what the backend can't do.
    """
    name = backend or ("openai" if base_urls else "embedded")
    if name not in BACKENDS:
        raise InvalidValue(f"backend: {name!r} does not exist; choose {', '.join(BACKENDS)}")
    if base_urls and name != "openai":
        raise InvalidValue(f"base-url: {name} takes none; leave it out or give --backend openai")
    if name == "openai":
        from reasoning.backends.openai.settings import OpenaiSettings

        if not base_urls:
            raise InvalidValue("base-url: the openai backend needs one; give --base-url URL")
        known = {"base_urls": tuple(base_urls)} | ({"model": str(model)} if model else {})
        return anyio.run(HttpModel.connect, parse(OpenaiSettings, settings, **known))
    if name == "vllm":
        from reasoning.backends.vllm.settings import VllmSettings

        return VllmModel.load(model, parse(VllmSettings, settings))
    return Model.load(model, settings=parse(EmbeddedSettings, settings))
