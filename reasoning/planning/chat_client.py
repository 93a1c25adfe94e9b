"""Asks a chat model on any backend for JSON, on behalf of a planner or a pilot."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Protocol, Self

from orchestrator.errors import InvalidValue
from reasoning.errors import CapabilityMissing, ProblemRefused
from reasoning.models.loaded import LoadedModel
from reasoning.values.context import Segment
from reasoning.values.sampling import Constraint, Sampling


class Chat(Protocol):
    """Answers a prompt with JSON, and remembers nothing of earlier prompts."""

    async def reply(self, prompt: str, schema: str) -> str:
        """The text of the reply, which should fit ``schema``, a JSON schema as text."""
        ...


@dataclass
class ChatClient:
    """A chat model of any backend, used as ``async with ChatClient(load_model(...)) as chat``.

    Where the backend can, replies are held to the schema while they are generated.  Elsewhere the
    schema is left out and ``unheld`` says why; whoever asks must check the reply in any case.

    Attributes:
        model: The model that is asked.
        temperature: See `Sampling`.
        seed: See `Sampling`; that of the next reply.  Each later reply has the next one.
        held: Whether replies must be held to the schema; by default where the backend can.
        written: Tokens generated for all replies.
        unheld: Why replies are not held to the schema; None while they are.

    Raises:
        CapabilityMissing: it is no chat model, or must be held to a schema and can't be.
    """

    model: LoadedModel
    _: KW_ONLY
    temperature: float = 0.0
    seed: int = 0
    held: bool | None = None
    written: int = field(default=0, init=False)
    unheld: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        try:
            self.model.dialect.ask("")
        except ProblemRefused as error:
            raise CapabilityMissing(
                f"{self.model.name} knows its own markup only and can't plan; name a chat model "
                "with --model, on a server with --base-url"
            ) from error
        if self.held is False:
            self.unheld = "it was not asked for"
        elif "json-schema" not in self.model.backend.capabilities:
            self._give_up_schema("its backend has no json-schema")

    async def __aenter__(self) -> Self:
        await self.model.backend.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.model.backend.__aexit__(*error)

    async def reply(self, prompt: str, schema: str) -> str:
        """See `Chat.reply`.

        Raises:
            BackendLost: the backend fails, or can't be reached any more.
            CapabilityMissing: the backend refuses the schema, and must hold replies to it.
        """
        free = Sampling(temperature=self.temperature, seed=self.seed)
        self.seed += 1
        if self.unheld is not None:
            return await self._write(prompt, free)
        try:
            held = replace(free, constraint=Constraint(kind="json", value=schema))
            return await self._write(prompt, held)
        except InvalidValue as error:
            text = await self._write(prompt, free)  # if it was not the schema, this says so
            self._give_up_schema(str(error))
            return text

    def _give_up_schema(self, why: str) -> None:
        if self.held:
            raise CapabilityMissing(
                f"{self.model.name} can't be held to a schema ({why}); leave out --held, or take "
                "another backend"
            )
        self.unheld = why

    async def _write(self, prompt: str, sampling: Sampling) -> str:
        dialect, backend = self.model.dialect, self.model.backend
        segment = Segment(dialect.ask(prompt))
        decoder, text = dialect.decoder(), ""
        limit = self.model.context
        generation = backend.open(segment, sampling, stop=dialect.stop, limit=limit)
        try:
            async for token in generation.tokens():
                segment.tokens.append(token.token)
                self.written += 1
                text += decoder.feed(token.token)
        finally:
            generation.close()
            backend.release([segment])
        return text
