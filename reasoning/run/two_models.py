"""Two models at one chain of reasoning: who writes, who reads along, and what each of them sees."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from math import exp

from reasoning.backends.base import Backend
from reasoning.errors import BackendLost
from reasoning.language.dialect import Dialect
from reasoning.models.loaded import LoadedModel
from reasoning.run.thread import Thread
from reasoning.values.context import Context, Segment
from reasoning.values.sampling import Sampling


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
        shares: Whether the other model speaks the same tokens, so that segments serve both.
    """

    chain: Thread
    backend: Backend
    dialect: Dialect
    max_tokens: int
    context: Context
    shares: bool

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

        What is read is charged to the chain.
        """
        logprobs = chunk.logprobs
        if "scoring" in self.backend.capabilities:
            segment = self._heard(chunk)
            if not len(segment):
                return 1.0
            logprobs = await self.backend.score(segment)
            self.chain.task.charge(len(segment))
        return exp(-sum(logprobs) / len(logprobs)) if logprobs else 1.0

    def keep(self, chunk: Chunk, *, own: bool) -> None:
        """Go on after a chunk, its own or the other's."""
        self.context = self.context.after(chunk.segment if own else self._heard(chunk))

    def _heard(self, chunk: Chunk) -> Segment:
        if self.shares:
            return chunk.segment
        if chunk.heard is None:
            chunk.heard = Segment(self.context, self.dialect.encode(chunk.text))
            self.chain.run.segments.add(chunk.heard)
        return chunk.heard

    def _sampling(self, place: str) -> Sampling:
        seed = zlib.crc32(f"{self.chain.run.seed}/{self.chain.task.id}/{place}".encode())
        return replace(self.chain.sampling, seed=seed)


def voices(chain: Thread, side: LoadedModel) -> tuple[Voice, Voice]:
    """The draft and the target at the beginning of a chain."""
    run = chain.run
    theirs = side.dialect.prompt(run.problem)
    same = theirs.tokens == chain.context.tokens and all(
        side.dialect.encode(text) == run.dialect.encode(text)
        for text in (run.dialect.probe, run.problem.question)
    )
    most = min(run.max_tokens, side.context) if same else side.context
    draft = Voice(
        chain=chain,
        backend=side.backend,
        dialect=side.dialect,
        max_tokens=most,
        context=chain.context if same else theirs,
        shares=same,
    )
    target = Voice(
        chain=chain,
        backend=run.backend,
        dialect=run.dialect,
        max_tokens=most if same else run.max_tokens,
        context=chain.context,
        shares=same,
    )
    return draft, target
