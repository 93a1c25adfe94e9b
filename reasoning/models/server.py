"""Models on OpenAI-compatible servers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.sync import run_sync
from reasoning.backends.openai.settings import OpenaiSettings
from reasoning.engine.config import read_config
from reasoning.errors import BackendLost, CapabilityMissing
from reasoning.language.dialect import Dialect
from reasoning.language.loading import authors_sampling, load_dialect
from reasoning.models.catalog import find, shipped
from reasoning.models.loaded import LoadedModel

if TYPE_CHECKING:
    from reasoning.backends.openai.profile import ServerProfile

DRAWING = ("vllm", "sglang", "llama.cpp", "llama-cpp-python", "ollama")
"""Servers that draw tokens in the model's own way, or theirs, where a request says nothing."""
CONTEXT = 8192
"""Tokens of context of a server that does not say."""


class ServerSource(OpenaiSettings):
    """Asks a server what it can do, and chooses how to talk to it."""

    def load(self, model: str | Path | None = None) -> LoadedModel:
        """`connect`, for code without an event loop, to the server's model of this name."""
        named = self if model is None else self.model_copy(update={"model": str(model)})
        return run_sync(named.connect)

    async def connect(self) -> LoadedModel:
        """The model on the servers, after a few requests to the first that can be reached.

        Raises:
            BackendLost: none can be reached, or it does not say in time if it takes token ids.
            UnknownName: it does not have the model.
            CapabilityMissing: it can't do what the settings ask for.
        """
        profile = await self.examine()
        ids = self.tokenizer is not None and self.mode in (None, "tokens")
        if ids and profile.token_prompts is None:  # as any chat model it would be another one
            raise BackendLost(
                f"{profile.url} did not say in time whether it takes token ids, which tokenizer is "
                "for; ask again, or give it longer with --engine probe_timeout=60"
            )
        return self.with_profile(profile)

    async def examine(self, *, thorough: bool = False) -> ServerProfile:
        """What the first of the servers that can be reached can do; see `server_probe.examine`."""
        from reasoning.backends.openai.connection import connect
        from reasoning.backends.openai.replicas.addresses import Addresses
        from reasoning.backends.openai.server_probe import examine

        lost: BackendLost | None = None
        for url in await Addresses(self.base_urls).now():
            try:
                async with connect(url, self) as client:
                    return await examine(client, url, self, tokenizers=shipped(), thorough=thorough)
            except BackendLost as error:
                lost = lost or error
        assert lost is not None  # there is at least one address
        raise lost

    def with_profile(self, profile: ServerProfile) -> LoadedModel:
        """The model on servers of which it is known what they can do."""
        from reasoning.backends.native_text import NativeText, check_carrier, text_tongue
        from reasoning.backends.openai.client import OpenaiBackend
        from reasoning.backends.openai.replicas.addresses import Addresses
        from reasoning.backends.text_tokens import TextDialect

        if (
            len(self.base_urls) > 1 or not Addresses(self.base_urls).fixed
        ):  # a join is where its branches are
            profile = profile.model_copy(update={"plugin": None})
        tokenizer = self.tokenizer or (profile.model if profile.model in shipped() else None)
        best = profile.mode(tokenizer=tokenizer is not None)
        in_text = (self.mode or best) != "tokens"
        native = text_tongue(self.dialect, profile.model) if in_text else None
        goes_on = native is not None and native.prompt.raw is not None and profile.completions
        mode = self.mode or ("text" if goes_on else best)
        how = {"in_chat": mode == "chat", "continues": profile.continues(mode)}
        dialect: Dialect = TextDialect(**how)
        eos = dialect.ends
        if mode == "tokens":
            if tokenizer is None or best != "tokens":
                raise CapabilityMissing(
                    f"mode tokens needs a server that takes and gives token ids "
                    f"({self.base_urls[0]}: {best}) and --engine tokenizer=PATH"
                )
            folder = find(tokenizer)
            config = read_config(folder)
            dialect, eos = load_dialect(folder, config, native=self.dialect), config.eos
        elif native is not None:
            check_carrier(native, self.base_urls[0], mode)
            dialect = NativeText(native, **how)
            dialect.chosen = "by its name" if self.dialect is None else "as asked"
        context = self.context or profile.context or CONTEXT
        context = min(context, profile.context or context)
        kind = OpenaiBackend
        if profile.shares(mode):
            from reasoning.vllm_plugin.remote import SharedServerBackend as kind
        backend = kind(self, profile, mode=mode, eos=eos, context=context)
        return LoadedModel(
            name=profile.model,
            dialect=dialect,
            context=context,
            backend=backend,
            sampling=authors_sampling(dialect),
            samples_itself=False if dialect.trained else profile.server in DRAWING or None,
        )
