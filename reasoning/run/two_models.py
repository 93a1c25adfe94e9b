"""Two models at one chain of reasoning: who writes, who reads along, and what each of them sees."""

from __future__ import annotations

import logging
import zlib
from dataclasses import dataclass, field, replace
from math import exp, isnan

from reasoning.backends.base import Backend
from reasoning.errors import BackendLost, CapabilityMissing
from reasoning.language.dialect import Dialect
from reasoning.models.loaded import LoadedModel
from reasoning.run.thread import Thread
from reasoning.values.context import Context, Segment
from reasoning.values.sampling import Sampling

logger = logging.getLogger(__name__)

NO_SCORES = (
    "atts needs scores: the model can't score given text, and the draft tells no "
    "log-probabilities; take --engine mode=text or tokenizer=PATH where the server has "
    "completions, or a draft that is loaded here"
)
MOST_STRANGE = 50.0
"""Above so many nats a token, texts are equally strange."""


@dataclass(kw_only=True)
class Chunk:
    """What one model wrote in one go.

    Attributes:
        text: As it is added to the chain.
        logprobs: Of its tokens, by who wrote it.
        ended: Whether it ended the chain by itself.
        heard: The same for the other model, where that speaks other tokens.
    """

    segment: Segment
    text: str = ""
    logprobs: list[float] = field(default_factory=list)
    ended: bool = False
    heard: Segment | None = None


@dataclass(kw_only=True)
class Voice:
    """One of the two models at a chain.

    Attributes:
        context: What it sees of the chain, as far as that was kept.
        shares: Whether the other model speaks the same tokens and was asked in the same, so that
            segments serve both.
        knows: Whether it speaks the same tokens.
    """

    chain: Thread
    backend: Backend
    dialect: Dialect
    max_tokens: int
    context: Context
    shares: bool
    knows: bool

    async def speak(self, tokens: int, place: str) -> Chunk:
        """Write up to so many tokens; ``place`` in the chain seeds what is drawn."""
        chain = self.chain
        chunk = Chunk(segment=Segment(self.context))
        limit = min(self.max_tokens, self.context.position + tokens)
        if limit <= self.context.position:
            chain.cut, chunk.ended = True, True
            return chunk
        chain.run.segments.add(chunk.segment)
        decoder = chain.decoder if self.shares else self.dialect.decoder()
        generation = self.backend.open(
            chunk.segment, self._sampling(place), stop=self.dialect.stop, limit=limit
        )
        try:
            async for token in generation.tokens():
                chunk.segment.tokens.append(token.token)
                piece = decoder.feed(token.token)
                chain.take(token, piece)
                chunk.text += piece
                chunk.logprobs.append(token.logprob)
                chunk.ended = token.reason == "stop"
        except BackendLost as error:
            chain.lost, chunk.ended = str(error), True
        finally:
            generation.close()
        return chunk

    async def read(self, chunk: Chunk) -> float:
        """The perplexity of the other's chunk: this model's, or where it can't score the other's.

        What is read is charged to the chain, and ``draft-scored`` noted in the second case.

        Raises:
            CapabilityMissing: the other tells no log-probabilities either.
        """
        if not chunk.text.strip():
            return 1.0
        logprobs = await self._scored(chunk)
        if logprobs is None:
            self.chain.run.emulated.add("draft-scored")
            logprobs = [one for one in chunk.logprobs if not isnan(one)]
            if not logprobs:
                raise CapabilityMissing(NO_SCORES)
        return exp(min(-sum(logprobs) / max(len(logprobs), 1), MOST_STRANGE))

    async def _scored(self, chunk: Chunk) -> list[float] | None:
        """The log-probabilities of the other's chunk to this model; None where it can't say."""
        segment = self._heard(chunk)
        if "scoring" not in self.backend.capabilities or not len(segment):
            return None
        try:
            found = await self.backend.score(segment)
        except BackendLost as error:
            logger.warning("a step could not be scored: %s", error)
            return None
        self.chain.task.charge(len(segment))
        return found or None

    def keep(self, chunk: Chunk, *, own: bool) -> None:
        """Go on after a chunk, its own or the other's."""
        self.context = self.context.after(chunk.segment if own else self._heard(chunk))

    def _heard(self, chunk: Chunk) -> Segment:
        if self.shares:
            return chunk.segment
        if chunk.heard is None:
            tokens = chunk.segment.tokens if self.knows else self.dialect.encode(chunk.text)
            chunk.heard = Segment(self.context, tokens)
            self.chain.run.segments.add(chunk.heard)
        return chunk.heard

    def _sampling(self, place: str) -> Sampling:
        seed = zlib.crc32(f"{self.chain.run.seed}/{self.chain.task.id}/{place}".encode())
        return replace(self.chain.sampling, seed=seed)


def voices(chain: Thread, side: LoadedModel) -> tuple[Voice, Voice]:
    """The draft and the target at the beginning of a chain."""
    run = chain.run
    theirs = side.dialect.prompt(run.problem)
    knows = bool(run.dialect.vocabulary) and side.dialect.vocabulary == run.dialect.vocabulary
    same = knows and theirs.tokens == chain.context.tokens
    most = min(run.max_tokens, side.context) if same else side.context
    draft = Voice(
        chain=chain,
        backend=side.backend,
        dialect=side.dialect,
        max_tokens=most,
        context=chain.context if same else theirs,
        shares=same,
        knows=knows,
    )
    target = Voice(
        chain=chain,
        backend=run.backend,
        dialect=run.dialect,
        max_tokens=most if same else run.max_tokens,
        context=chain.context,
        shares=same,
        knows=knows,
    )
    return draft, target
