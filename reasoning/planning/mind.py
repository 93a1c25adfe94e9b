"""What thinks for a planner or a pilot: any chat model, on any backend."""

from __future__ import annotations

from typing import Any, Protocol, Self

from orchestrator.errors import CapabilityMissing
from reasoning.context import Segment
from reasoning.domains.recognition import FreeForm
from reasoning.forms.prompted import PromptedForms
from reasoning.loading import AnyModel
from reasoning.sampling import Constraint, Sampling


class Mind(Protocol):
    """Answers a prompt with JSON; each time anew, it remembers nothing."""

    async def reply(self, prompt: str, schema: str) -> str:
        """What it writes; ``schema`` is the JSON schema of what it should write, as text."""
        ...


class ChatMind:
    """A chat model of any backend, used as ``async with ChatMind(load(...)) as mind``.

    Where the backend has structured output, the schema is enforced while it generates; elsewhere it
    only stands in the prompt, and what comes is checked all the same.

    Attributes:
        written: Tokens that it has generated.
    """

    def __init__(self, model: AnyModel, *, temperature: float = 0.0, seed: int = 0) -> None:
        """Take a loaded model.

        Raises:
            CapabilityMissing: it is no chat model.
        """
        forms = model.dialect.forms(FreeForm(question=""))
        if not isinstance(forms, PromptedForms):
            raise CapabilityMissing(
                f"{model.name} knows its own markup only and can't plan; name a chat model with "
                "--model, on a server with --base-url"
            )
        self._ask = forms.ask
        self._model = model
        self._backend = model.backend()
        self._temperature = temperature
        self._seed = seed
        self.written = 0

    async def __aenter__(self) -> Self:
        await self._backend.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._backend.__aexit__(*error)

    @property
    def structured(self) -> bool:
        """Whether the schema is enforced while it generates."""
        return "structured-output" in self._backend.capabilities

    async def reply(self, prompt: str, schema: str) -> str:
        """See `Mind.reply`.

        Raises:
            BackendLost: it can't be reached any more, or fails.
        """
        constraint = Constraint(kind="json", value=schema) if self.structured else None
        sampling = Sampling(temperature=self._temperature, seed=self._seed, constraint=constraint)
        dialect = self._model.dialect
        segment = Segment(self._ask(prompt))
        decoder, text = dialect.decoder(), ""
        generation = self._backend.open(
            segment, sampling, stop=dialect.stop, limit=self._model.context
        )
        try:
            async for token in generation.tokens():
                self.written += 1
                text += decoder.feed(token.token)
        finally:
            generation.close()
            self._backend.release([segment])
        return text
