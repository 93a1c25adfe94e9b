"""A thread of reasoning: it writes, is given more, goes on in a join, and is read and closed."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator import Event, Task
from reasoning.backends.base import Generation, Token
from reasoning.errors import BackendLost
from reasoning.values.context import Context, Gang, Segment
from reasoning.values.sampling import Sampling, StopReason

if TYPE_CHECKING:
    from reasoning.run.run import Run


@dataclass(frozen=True, kw_only=True)
class TextGenerated(Event):
    """A thread wrote ``text``, one token."""

    text: str


class Written(NamedTuple):
    """What a thread wrote until it stopped; a stop by a marker includes the marker."""

    text: str
    reason: StopReason


@dataclass(kw_only=True)
class Thread:
    """One thread of reasoning, open on a backend while its task runs.

    Attributes:
        context: What it sees beside what it writes now.
        opening: What is given to it at its start, as its own first words.
        path: The identity of its own tokens, for models with path vectors; 0 is none.
        stop: Tokens that stop it, beside the dialect's; it may then go on.
        gang: The threads with which it advances in lock-step.
        own: The segment that it writes to, where others had to know it before it was opened.
        reserve: Tokens of its context that it leaves to those who go on from it.
        inside: Whether its task has been waiting for other threads and now goes on with this one.
        text: Everything after its prompt: what it wrote and what was appended.
        given: Prompt, opening and appended tokens.
        written: Tokens that it generated.
        chain: Tokens generated one after the other up to its last one, by those that it was spawned
            by or has waited for and by itself.
        logprob: The sum of their log-probabilities at temperature 1.
        cut: Whether its context had no room for what it had to write or to read.
        lost: Why the backend lost it, if it did; what it wrote until then stands.
    """

    run: Run
    task: Task[Any]
    context: Context
    opening: str = ""
    path: int = 0
    stop: frozenset[int] = frozenset()
    gang: Gang | None = None
    own: Segment | None = None
    inside: bool = False
    reserve: int = 0
    text: str = ""
    given: int = 0
    written: int = 0
    chain: int = 0
    logprob: float = 0.0
    answer: str | None = None
    cut: bool = False
    lost: str | None = None

    def __post_init__(self) -> None:
        run = self.run
        tokens = run.dialect.encode(self.opening) if self.opening else []
        own = self.own
        self.segment = Segment(self.context, tokens, path=self.path) if own is None else own
        run.segments.add(self.segment)
        self._generation = self._open()
        self.chain = run.chain(self.task)
        self.decoder = run.dialect.decoder()
        self.given = len(self.context)
        run.account(self)
        self._give(self.segment.tokens)

    def _open(self) -> Generation:
        run = self.run
        return run.backend.open(
            self.segment,
            self.sampling,
            stop=run.dialect.stop | self.stop,
            limit=self.limit,
            gang=self.gang,
        )

    @property
    def limit(self) -> int:
        """Its last position is below this."""
        return self.run.max_tokens - self.reserve

    @property
    def sampling(self) -> Sampling:
        """The run's way of drawing tokens, with this thread's seed."""
        return replace(self.run.sampling, temperature=self.run.temperature, seed=self.seed)

    @property
    def sent(self) -> tuple[int, int | None]:
        """Tokens sent as prompts, and how many of these were in a prefix cache, where known."""
        return self._generation.prompted, self._generation.cached

    def _took(self, token: Token) -> None:
        """Called after each token that it wrote, for those who make more of it."""

    @property
    def seed(self) -> int:
        """Follows from the run's seed and the thread's place in the graph, never from timing."""
        return zlib.crc32(f"{self.run.seed}/{self.task.id}".encode())

    async def write(self) -> Written:
        """Generate until the thread stops by itself, at a marker, or at its context's end.

        A thread that the backend loses ends there, so that the run goes on with the others.
        """
        start = len(self.text)
        try:
            reason = await self._write()
        except BackendLost as error:
            reason, self.lost = "lost", str(error)
        self.cut = self.cut or reason == "length"
        return Written(self.text[start:], reason)

    async def _write(self) -> StopReason:
        reason: StopReason = "length"
        async for token in self._generation.tokens():
            self.segment.tokens.append(token.token)
            self.written += 1
            self.chain += 1
            self.logprob += token.logprob
            self.task.charge(1)
            piece = self.decoder.feed(token.token)
            self.text += piece
            self.run.graph.events.emit(TextGenerated(task=self.task.id, text=piece))
            reason = token.reason or reason
            self._took(token)
        return reason

    def append(self, text: str) -> bool:
        """Give the stopped thread more text, which it attends to when it goes on writing.

        Returns False, and appends nothing, where the context has no room to write after it.
        """
        tokens = self.run.dialect.encode(text)
        if self.segment.position + len(tokens) >= self.limit:
            self.cut = True
            return False
        self._generation.extend(tokens)
        self.segment.tokens += tokens
        self.chain = max(self.chain, self.run.chain(self.task))
        self._give(tokens)
        return True

    def _give(self, tokens: Sequence[int]) -> None:
        self.given += len(tokens)
        self.task.charge(len(tokens))
        for token in tokens:
            self.text += self.decoder.feed(token)

    @property
    def end(self) -> Context:
        """What it sees and has written, for others to start from or to join."""
        return self.context.after(self.segment)

    def resume(self, context: Context, opening: str, *, own: Segment | None = None) -> bool:
        """Let the stopped thread go on in another context, such as a join, after given words.

        Returns False, and changes nothing, where the context has no room to write.
        """
        segment = own if own is not None else Segment(context, self.run.dialect.encode(opening))
        if segment.position >= self.limit:
            self.cut = True
            return False
        self.context, self.segment = context, segment
        self.run.segments.add(segment)
        self._generation.resume(segment)
        self.chain = max(self.chain, self.run.chain(self.task))
        self.run.account(self, inside=True)
        self._give(segment.tokens)
        return True

    def conclude(self) -> str | None:
        """Read the answer from the text; None where the thread gave none."""
        self.answer = self.run.dialect.answer(self.run.problem, self.text)
        return self.answer

    def close(self) -> None:
        """Stop at once, free the slot, and let go of what it saw and wrote."""
        self._generation.close()
        self.context = Context()
        self.segment = Segment(self.context)
