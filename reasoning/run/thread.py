"""A thread of reasoning: it writes, is given more, goes on in a join, and is read and closed."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from orchestrator import Event, Task
from reasoning.backends.base import Generation, Token
from reasoning.errors import BackendLost
from reasoning.language.steps import StepEnds, may_end_step
from reasoning.problems.answers import Source
from reasoning.run.solution import Ending, TraceRecord
from reasoning.run.text_ends import RunawayRepetition, StopTexts
from reasoning.values.context import Context, Gang, Placed, Segment
from reasoning.values.conversation import ToolCall, calls_as_answer
from reasoning.values.sampling import Sampling, StopReason

if TYPE_CHECKING:
    from reasoning.language.dialect import StreamDecoder
    from reasoning.run.run import Run


@dataclass(frozen=True, kw_only=True)
class TextGenerated(Event):
    """A thread wrote ``text``, one token."""

    text: str


@dataclass(frozen=True, kw_only=True)
class ThreadConcluded(Event):
    """A thread's answer was read.

    Attributes:
        answer: None where it gave none.
        vote: The key under which equal answers vote together.
    """

    answer: str | None
    vote: str | None
    ending: Ending


class Written(NamedTuple):
    """What a thread wrote until it stopped; a stop by a marker includes the marker."""

    text: str
    reason: StopReason


class ThreadObserver(Protocol):
    """Follows one thread, and accounts for it when the run has ended."""

    def took(self, token: Token) -> None:
        """Take note of a token that the thread wrote."""
        ...

    @property
    def leaked(self) -> int:
        """Tokens generated for the thread after it was stopped."""
        ...

    def record(self) -> TraceRecord:
        """What a policy was told of the thread."""
        ...


@dataclass(frozen=True, kw_only=True)
class ThreadOptions:
    """How a thread is opened.

    Attributes:
        opening: Text that it is given at its start, as its own first words.
        path: The identity of its own tokens, for models with path vectors; 0 is that of no path.
        stop: Tokens that stop it, beside the dialect's; it may then go on.
        steps: Where it stops beside that, in what it has written since it went on last.
        gang: The threads with which it advances in lock-step, or where the backend has no live
            contexts, those with which it is compared by tokens (`Run.turn`).
        segment: The segment that it writes to, where others had to know it before.
        reserve: Tokens of its context that it leaves to those who go on from it.
        most: The most tokens that it may generate; None for as many as its context holds.
        chain: The longest that `Thread.chain` may become by what it writes; None is no bound.
        sampling: How its tokens are drawn; None for the run's way.
        confidence: Over so many of the likeliest tokens each token's confidence is measured.
        observer: Follows what it writes, token by token.
        patient: Whether the observer looks at nothing before the thread has ended.
        silent: Whether the backend generates nothing for it: others write, and it counts.
    """

    opening: str = ""
    path: int = 0
    stop: frozenset[int] = frozenset()
    steps: StepEnds | None = None
    gang: Gang | None = None
    segment: Segment | None = None
    reserve: int = 0
    most: int | None = None
    chain: int | None = None
    sampling: Sampling | None = None
    confidence: int = 0
    observer: ThreadObserver | None = None
    patient: bool = False
    silent: bool = False


@dataclass(kw_only=True, eq=False)
class Thread:
    """One thread of reasoning, open on a backend while its task runs; `Run` opens it.

    Attributes:
        context: What it sees beside what it writes now.
        segment: What it writes to.
        inside: Whether its task has been waiting for other threads and now goes on with this one.
        text: Everything after its prompt: what it wrote and what was appended.
        given: The number of prompt, opening and appended tokens.
        written: The number of tokens that it generated.
        chain: Tokens generated one after the other up to its last one, by those that it was spawned
            by or has waited for and by itself.
        longest: The same, with the words that these were given on the way.
        begins: Where in that chain it wrote on, and how many tokens it had written by then.
        logprob: The sum of its tokens' log-probabilities at temperature 1.
        stands: Whether it has stopped and does not go on yet.
        dropped: Tokens that it wrote behind the point at which others stopped it.
        cut: Whether its context had no room for what it had to write or to read.
        lost: Why the backend lost it, if it did; what it wrote until then stands.
        answer: What it concluded, with where that stood, and all of its final text.
        tool_calls: What it asks others to do; its answer is then these calls, as JSON.
        ending: Why it wrote no more, when it has ended.
    """

    run: Run
    task: Task[object]
    context: Context
    segment: Segment
    decoder: StreamDecoder
    options: ThreadOptions
    inside: bool = False
    text: str = ""
    given: int = 0
    written: int = 0
    chain: int = 0
    longest: int = 0
    begins: list[tuple[int, int]] = field(default_factory=list)
    logprob: float = 0.0
    stands: bool = False
    dropped: int = 0
    answer: str | None = None
    answer_source: Source = "none"
    final_text: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    cut: bool = False
    lost: str | None = None
    ending: Ending = "end"
    _stops: StopTexts = field(init=False, repr=False)
    _runaway: RunawayRepetition | None = field(default=None, repr=False)
    _told: int = field(default=0, repr=False)
    _given_text: list[tuple[int, int]] = field(default_factory=list, repr=False)
    _generation: Generation | None = field(default=None, repr=False)
    _cut_at: int | None = field(default=None, repr=False)
    _marks: list[tuple[int, float, int]] = field(default_factory=list, repr=False)
    """Before each token of a thread with a gang: the length of its text, its ``logprob``, and all
    tokens that it saw or had."""

    def __post_init__(self) -> None:
        self._stops = StopTexts(self._stop_texts)
        if self.run.ends_repetition:
            self._runaway = RunawayRepetition()

    @property
    def limit(self) -> int:
        """Its last position is below this."""
        return self.run.max_tokens - self.options.reserve

    @property
    def room(self) -> int:
        """How many tokens it may still be given or write."""
        return self.limit - self.segment.position

    @property
    def seed(self) -> int:
        """Follows from the run's seed and the thread's place in the graph, never from timing."""
        return zlib.crc32(f"{self.run.seed}/{self.task.id}".encode())

    @property
    def sampling(self) -> Sampling:
        """The run's way of drawing tokens, with this thread's seed."""
        own = self.options.sampling
        shared = self.run.sampling if own is None else own
        most = self._most
        return replace(
            shared,
            temperature=self.run.temperature if own is None else own.temperature,
            seed=self.seed,
            confidence=self.options.confidence,
            problem=self.run.name,
            max_new_tokens=None if most is None else max(1, most - self.written),
            whole=self._unwatched,
        )

    @property
    def _most(self) -> int | None:
        """The most tokens that it may write in all, as far as is known now."""
        options = self.options
        shared = self.run.sampling if options.sampling is None else options.sampling
        bounds = [options.most, shared.max_new_tokens]
        if options.chain is not None:
            bounds.append(self.written + options.chain - self.chain)
        return min((bound for bound in bounds if bound is not None), default=None)

    @property
    def spent(self) -> bool:
        """Whether the chain that it would go on behind is as long as it may become."""
        bound = self.options.chain
        return bound is not None and max(self.chain, self.run.chain(self.task)[0]) >= bound

    @property
    def _stop_texts(self) -> tuple[str, ...]:
        return (self.options.sampling or self.run.sampling).stop

    @property
    def stop_text(self) -> str | None:
        """The stop text at which it has stopped, which its own text is without."""
        return self._stops.found

    @property
    def _unwatched(self) -> bool:
        """Whether nobody looks at its tokens as they come."""
        options = self.options
        watched = options.observer is not None and not options.patient
        return not (watched or options.steps or options.confidence or self.run.events.heard)

    @property
    def ignored(self) -> frozenset[str]:
        """What was asked for and the server does not take, by the fields of its requests."""
        return frozenset() if self._generation is None else self._generation.ignored

    @property
    def timing_dependent(self) -> bool:
        """Whether its tokens hang on when requests were lost or late."""
        return self._generation is not None and self._generation.timing_dependent

    @property
    def sent(self) -> tuple[int, int | None]:
        """Tokens sent as prompts, and how many of these were in a prefix cache, where known."""
        generation = self._generation
        return (0, None) if generation is None else (generation.prompted, generation.cached)

    @property
    def leaked(self) -> int:
        """Tokens generated for it after it was closed or stopped, as far as known."""
        return self.dropped + (0 if self._generation is None else self._generation.leaked)

    @property
    def discarded(self) -> int:
        """Tokens written for it a second time elsewhere and thrown away, as far as known."""
        return 0 if self._generation is None else self._generation.discarded

    def generate(self) -> None:
        """Start generating; called once, by the run, when everything about the thread is known.

        A thread without room to write is cut and never starts, unless nothing was generated in the
        run yet: the prompt is then too long, and the backend's error says by how much.  Where a
        prompt's length is a guess, only the backend can say.
        """
        guessed = not self.run.backend.exact and len(self.context.entries) == 1
        if (self.room <= 0 and self.run.began and not guessed) or self.spent:
            self.cut = True
            self.ending = self._ended("length")
        elif not self.options.silent:
            self._generation = self._opened(self.segment)
        self._give(self.segment.tokens)

    def _opened(self, segment: Segment) -> Generation:
        steady = "live-contexts" in self.run.backend.capabilities
        gang = self.options.gang if steady else None
        return self.run.backend.open(
            segment, self.sampling, stop=self._stop, limit=self.limit, gang=gang
        )

    @property
    def _stop(self) -> frozenset[int]:
        """The tokens that stop it; where it can be stopped anywhere, steps need none of theirs."""
        stop, steps = self.run.dialect.stop | self.options.stop, self.options.steps
        if steps is None:
            return stop
        known = self.run.dialect.ends if steps.found and self.run.backend.stops_anywhere else None
        return stop | (steps.tokens if known is None else known)

    async def write(self) -> Written:
        """Generate until the thread stops by itself, at a marker or stop text, at the end of a
        step, or at its context's end.

        A thread that the backend loses ends there, so that the run goes on with the others; one
        that is cut writes nothing.
        """
        start = len(self.text)
        reason: StopReason = "length"
        generation = self._generation
        if generation is not None and not self.cut:
            try:
                while (reason := await self._read(generation, start)) == "stop":
                    if self._stops.found is not None or self._step_has_ended(start):
                        break
                    if self._has_no_room(self.segment):
                        reason = "length"
                        break
                    generation.extend(())
                    self.go_on()
            except BackendLost as error:
                reason, self.lost = "lost", str(error)
                self.text += self._stops.end()
            self.cut = reason == "length"
            self.ending = self._ended(reason)
            if self.ending in ("stop-text", "repeats") or (self.cut and self.spent):
                generation.close()
        return Written(self.text[start:], reason)

    async def write_more(self, most: int) -> int:
        """Generate up to so many tokens behind a stop, whatever they are, and no more after them.

        Returns how many it were.
        """
        before, generation = self.written, self._generation
        if not most or generation is None or self._has_no_room(self.segment):
            return 0
        if self.options.chain is not None:
            most = min(most, self.options.chain - self.chain)
        generation.hold(self.written + most)
        generation.extend(())
        self.go_on()
        tokens = generation.tokens()
        try:
            async for token in tokens:
                self.segment.tokens.append(token.token)
                piece = self.decoder.feed(token.token)
                self.text += piece
                self.take(token, piece)
                if self.written == before + most:
                    break
        except BackendLost as error:
            self.lost = str(error)
        if isinstance(tokens, AsyncGenerator):
            await tokens.aclose()
        generation.close()
        return self.written - before

    def _ended(self, reason: StopReason) -> Ending:
        """Why it has stopped now, beside the reason that the backend knows."""
        if reason == "stop":
            return "end" if self._stops.found is None else "stop-text"
        if reason == "lost":
            return "lost"
        if self.ending == "repeats":
            return "repeats"
        most = self._most
        return "context" if most is None or self.written < most else "max-new-tokens"

    async def _read(self, generation: Generation, start: int) -> StopReason:
        """Take what is generated until the thread stops; returns why it did."""
        found = self.options.steps and self.options.steps.found
        tokens, bound = generation.tokens(), self.options.chain
        reason: StopReason = "length"
        async for token in tokens:
            if self._cut_at is not None:
                self.dropped += 1
                continue
            self.segment.tokens.append(token.token)
            piece = self._stops.feed(self.decoder.feed(token.token))
            if token.reason is not None:
                piece += self._stops.end()
            self.text += piece
            self.take(token, piece)
            reason = token.reason or reason
            if self._stops.found is not None:
                return "stop"
            if self.chain == bound and token.reason is None:
                return "length"
            if self._runaway is not None and self._runaway.met(self.text):
                self.ending = "repeats"
                return "length"
            if found and token.reason is None and may_end_step(piece):
                end = found(self.text[start:]) if self.run.backend.stops_anywhere else None
                if end is not None:
                    generation.stop_here()
                    self._trim(start + end, piece)
                    if isinstance(tokens, AsyncGenerator):
                        await tokens.aclose()
                    return "stop"
        return reason

    def _step_has_ended(self, start: int) -> bool:
        """Whether a thread that stopped at a token stays so: some tokens only may end a step."""
        steps, last = self.options.steps, self.segment.tokens[-1:]
        if steps is None or steps.found is None or not last:
            return True
        if last[0] in self._for_good or last[0] not in self._stop:
            return True
        return steps.found(self.text[start:]) is not None

    @property
    def _for_good(self) -> frozenset[int]:
        """Tokens that end more than a step."""
        dialect = self.run.dialect
        return dialect.ends | dialect.stop | self.options.stop

    def _trim(self, end: int, piece: str) -> None:
        """Drop what its last token has behind a step's end, where tokens are runs of text."""
        behind, steps = len(self.text) - end, self.options.steps
        if behind and steps is not None and steps.within:
            self.segment.tokens[-1:] = self.run.dialect.encode(piece[: len(piece) - behind])
            self.text = self.text[:end]

    def take(self, token: Token, piece: str) -> None:
        """Count and show a token of the thread's; ``piece`` is its text, which it has already."""
        if self.options.gang is not None:
            seen = len(self.context) + len(self.segment) - 1
            self._marks.append((len(self.text) - len(piece), self.logprob, seen))
        self.stands = token.reason is not None
        self.written += 1
        self.chain += 1
        self.longest += 1
        self.logprob += token.logprob
        self.task.charge(1)
        if self.run.events.heard:
            self.run.events.emit(TextGenerated(task=self.task.id, text=piece))
        self.run.changes.tell()
        if self.options.observer is not None:
            self.options.observer.took(token)

    def go_on(self) -> None:
        """It stands no longer: whoever waits for its turn looks again."""
        self.stands = False
        self.run.changes.tell()

    def text_at(self, written: int) -> str:
        """Its text when it had generated so many tokens; all where it has not more of them."""
        return self.text[: self._marks[written][0]] if written < len(self._marks) else self.text

    def cut_behind(self, written: int) -> None:
        """Drop what it has generated behind so many tokens, and what is still to come."""
        self._cut_at = written
        behind = self.written - written
        if behind > 0:
            length, self.logprob, seen = self._marks[written]
            self.text = self.text[:length]
            if seen < len(self.context):  # it has gone on in another segment since
                self.context = self.context.first(seen)
                self.segment = Segment(self.context, path=self.segment.path)
            del self.segment.tokens[seen - len(self.context) :], self._marks[written:]
            self.dropped += behind
            self.written, self.chain = written, self.chain - behind
            self.longest -= behind

    def hold(self, until: int | None) -> None:
        """Stand still after ``until`` tokens in all, where the backend can; None goes on."""
        if self._generation is not None:
            self._generation.hold(until)

    def append(self, text: str) -> bool:
        """Give the stopped thread more text, which it attends to when it goes on writing.

        Returns False, and appends nothing, where the context has no room to write after it; the
        thread is then cut.
        """
        tokens = self.run.dialect.encode(text)
        if self._has_no_room(self.segment, len(tokens)):
            return False
        if self._stops.found is not None:
            self.context = self.end
            self._go_on_in(Segment(self.context, tokens))
        else:
            if self._generation is not None:
                self._generation.extend(tokens)
            self.segment.tokens += tokens
        self._follow()
        self._give(tokens)
        return True

    def resume(self, context: Context, opening: str, *, segment: Segment | None = None) -> bool:
        """Let the stopped thread go on in another context, such as a join, after given words.

        Returns False, and changes nothing, where the context has no room to write; the thread is
        then cut, behind all that its task has waited for.
        """
        if segment is None:
            segment = Segment(context, self.run.dialect.encode(opening))
        if self._has_no_room(segment):
            self._waited()
            return False
        self.context = context
        if self._generation is None or self._stops.found is not None:
            self._go_on_in(segment)
        else:
            self.segment = segment
            self.run.segments.add(segment)
            self._generation.resume(segment)
        self._follow()
        self.run.account(self, inside=True)
        self._give(segment.tokens)
        return True

    def _follow(self) -> None:
        """Go on behind all that its task has waited for."""
        self.go_on()
        before = self.chain
        self._waited()
        if self.chain > before:
            self.begins.append((self.chain, self.written))

    def _waited(self) -> None:
        """Stand behind all that its task has waited for."""
        chain, longest = self.run.chain(self.task)
        self.chain, self.longest = max(self.chain, chain), max(self.longest, longest)

    def _go_on_in(self, segment: Segment) -> None:
        """Write to another segment; one that a stop text ended is opened anew there."""
        self.segment = segment
        self.run.segments.add(segment)
        if self._stops.found is not None:
            self._stops = StopTexts(self._stop_texts)
            self._generation = self._opened(segment)

    def _has_no_room(self, segment: Segment, more: int = 0) -> bool:
        self.cut = self.cut or self.limit - segment.position <= more or self.spent
        return self.cut

    def _give(self, tokens: Sequence[int]) -> None:
        self.given += len(tokens)
        self.longest += len(tokens)
        self._told += len(tokens)
        self.task.charge(len(tokens))
        start = len(self.text)
        for token in tokens:
            self.text += self.decoder.feed(token)
        if len(self.text) > start:
            self._given_text.append((start, len(self.text)))

    @property
    def said(self) -> int:
        """Its tokens without its prompt: what it wrote, and the words that it was given for it."""
        return self.written + self._told

    def stretches(self, after: int) -> tuple[tuple[int, int], ...]:
        """From which token to which it wrote, in a chain that begins ``after`` so many tokens."""
        ends = [*(written for _, written in self.begins[1:]), self.written]
        return tuple(
            (after + chain, after + chain + end - written)
            for (chain, written), end in zip(self.begins, ends, strict=True)
        )

    @property
    def own_text(self) -> str:
        """What it generated itself; a blank line stands where it was given more."""
        pieces, start = [], 0
        for given, end in self._given_text:
            pieces.append(self.text[start:given])
            start = end
        return "\n\n".join(piece for piece in (*pieces, self.last_text) if piece)

    @property
    def last_text(self) -> str:
        """What it generated since it was given something last."""
        return self.text[self._given_text[-1][1] if self._given_text else 0 :]

    @property
    def end(self) -> Context:
        """What it sees and has written, for others to start from or to join."""
        return self.context.after(self.segment)

    def fork(self, tokens: int) -> Context:
        """What it sees, and the first ``tokens`` tokens that it wrote."""
        assert tokens <= len(self.segment), "it has not written so many, or it was closed"
        placed = Placed(self.segment, upto=tokens)
        return Context(entries=(*self.context.entries, placed), position=self.segment.home + tokens)

    def conclude(self, *, last_turn: bool = False, text: str | None = None) -> str | None:
        """Read the answer from what it wrote; None where the thread gave none.

        A thread that was cut or lost gives only an answer that stands complete in its text.  With
        ``last_turn`` what it wrote before it was given something last is not looked at; a ``text``
        is read in place of all that.
        """
        if text is None:
            text = self.last_text if last_turn else self.own_text
        finished = not self.cut and self.lost is None
        reading = self.run.dialect.answer(self.run.problem, text, finished=finished)
        self.answer, self.answer_source = reading.answer, reading.source
        self.final_text = reading.text
        called = () if self._generation is None else self._generation.tool_calls
        self.tool_calls = called or self.run.dialect.tool_calls(self.own_text)
        whole = all(call.whole for call in self.tool_calls)
        if self.tool_calls and whole and not self.cut and self.lost is None:
            self.answer, self.answer_source = calls_as_answer(self.tool_calls), "calls"
        if self.run.events.heard:
            vote = self.run.key(self.answer)
            told = ThreadConcluded(
                task=self.task.id, answer=self.answer, vote=vote, ending=self.ending
            )
            self.run.events.emit(told)
        return self.answer

    def free(self) -> None:
        """Stop at once and free the slot; what it saw and wrote stays, to be forked."""
        if self._generation is not None:
            self._generation.close()

    def close(self) -> None:
        """Stop at once, free the slot, and let go of what it saw and wrote."""
        self.free()
        self.context = Context()
        self.segment = Segment(self.context)
