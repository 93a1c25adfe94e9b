"""Runs a native description over threads, in token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

from orchestrator import Task, current_task
from reasoning.language.native.description import Placement
from reasoning.language.native.dialect import NativeDialect
from reasoning.language.native.placing import BranchEnd, ForkPlace
from reasoning.run.thread import Thread, ThreadOptions
from reasoning.strategies.tongues.speaker import MOST_STOPS, ForkDenied, Speaker
from reasoning.values.accounting import BlockTags, BlockTokens
from reasoning.values.context import Context, Gang, Segment
from reasoning.values.sampling import Sampling


class Closing(NamedTuple):
    """How a thread came to an end.

    Attributes:
        closed: Whether it wrote its own end.
        tail: Tokens that it wrote behind that.
        part: Whether it stood in the first part after a join, which has an end of its own.
        end: All that it came to, where its last fork's branches belong to that.
    """

    closed: bool
    tail: int = 0
    part: bool = False
    end: Context | None = None


@dataclass(kw_only=True)
class Interpreter(Speaker):
    """Runs a description: it stops, forks, joins and goes on as that says.

    All that it gives to threads is token ids, and none of what they wrote is encoded anew.
    """

    dialect: NativeDialect
    placement: Placement

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tongue = self.dialect.tongue
        self._joins = "kv-join" in self.run.backend.capabilities
        if self.placement.carrier == "kv" and not self._joins:
            self.placement = Placement()
            self.run.emulated.add("text-join")
            if self.format.tensors:
                self.run.emulated.add("without-path-vectors")
        these, fork, branch = self.tongue.these, self.format.fork, self.format.branch
        self._at, self._ends = these(fork.at), these(branch.ends)
        self._until, self._rewritten = these(self.format.resume.until), these(branch.rewritten)
        self._ignores_end = branch.ignores_end
        self._bare, self._needed = these(branch.tail_unless), these(self.format.join.needs)

    def tell(self, task: str, sequence: Context) -> None:
        """Tell it, and count it as the authors do."""
        rule = self.format.accounting
        if self.run.forked and rule.block is not None and rule.branch is not None:
            response = sequence.tokens[len(self.prompt) :]
            tags = BlockTags(*(self.tongue.ids[text] for text in (*rule.block, *rule.branch)))
            self.run.blocks = BlockTokens.of(response, tags)
        super().tell(task, sequence)

    def start(self) -> None:
        """Open the trunk, or where all forks at once, the task that waits for its branches."""
        if not self.format.fork.at:
            self.run.graph.add(self._at_once, name="trunk")
            return
        options = ThreadOptions(stop=self._stop(0), chain=self.bounds.chain)
        self.run.spawn(self._trunk, self.prompt, name="trunk", options=options)

    async def _trunk(self, thread: Thread) -> None:
        closing = await self._write(thread, 0)
        closer = self.format.resume.closer if closing.part else ""
        self.tell(thread.task.id, self._ended(thread, closing, closer="", unclosed=closer))
        thread.conclude()

    # ---- a fork behind the prompt ----------------------------------------------------------------

    async def _at_once(self) -> None:
        plan = self.format.fork.plan
        asked = (self.bounds.n if plan.width == "caller" else 0) or plan.count
        task = current_task()
        assert task is not None
        try:
            width = self.permitted(task, asked)
        except ForkDenied as denied:
            self.run.refuse_fork(task, str(denied))
            width = 1
        place = self._place(self.prompt)
        ends = await self._branches(place, [str(one + 1) for one in range(width)], 1)
        join, resume = self.format.join, self.format.resume
        if join.votes:
            for run in ends:
                self.tell(task.id, run.context)
            return
        context = place.joined(ends, self.tongue.encode(join.between))
        segment = Segment(context, self.tongue.encode(join.after))
        options = ThreadOptions(
            segment=segment, stop=self._stop(0), most=resume.tokens, chain=self.bounds.chain
        )
        with self.run.go_on(context, options) as thread:
            closing = await self._write(thread, 0, resumed=True)
            end = self._ended(thread, closing, closer=resume.closer, unclosed=resume.closer)
            self.tell(thread.task.id, end)
            thread.conclude()
            if not thread.written:
                self.skip_join(thread)

    # ---- writing ---------------------------------------------------------------------------------

    def _stop(self, depth: int) -> frozenset[int]:
        """What stops a thread that is so deep in forks."""
        fork, ends = self.format.fork, self.dialect.ends
        if depth:
            nested = self._at | self._until if fork.depth > 1 else frozenset[int]()
            return ends | nested | self._ends | self._rewritten
        return ends | self._at | self._until | (self._ends if fork.stray == "end" else frozenset())

    async def _write(self, thread: Thread, depth: int, *, resumed: bool = False) -> Closing:
        """Write, fork and join until the thread ends.

        ``resumed`` is True where it goes on from a join, whose first part has an end of its own.
        """
        rounds = vain = 0
        while True:
            written = await thread.write()
            if written.reason != "stop":
                return Closing(False, part=resumed)
            vain += 1
            if vain > MOST_STOPS:
                self.run.refuse_fork(thread.task, f"it stopped {MOST_STOPS} times in vain")
                return Closing(False, part=resumed)
            last = thread.segment.tokens[-1]
            if last in self._at and not resumed and (not depth or self.format.fork.depth > 1):
                outcome = await self._fork(thread, depth, rounds)
                if isinstance(outcome, Closing):
                    return outcome
                if outcome == "joined":
                    rounds, vain, resumed = rounds + 1, 0, bool(self._until)
            elif not self._goes_on(thread, depth, last, resumed=resumed):
                return Closing(self._is_end(depth, last, resumed=resumed), part=resumed)
            elif last in self._until or (last in self.dialect.ends and not self._ignores_end):
                resumed = False

    def _is_end(self, depth: int, last: int, *, resumed: bool) -> bool:
        """Whether a thread that has stopped for good wrote its own end."""
        return last in (self._ends if depth else self._until if resumed else self.dialect.ends)

    def _goes_on(self, thread: Thread, depth: int, last: int, *, resumed: bool) -> bool:
        """Let a thread that met a token go on where that ends nothing, or stands for another."""
        branch, resume = self.format.branch, self.format.resume
        if last in self._at:  # of a fork that may not be there
            return thread.append("")
        if depth:
            if last in self._ends:
                return False
            if last in self._rewritten:
                return self._replace(thread, self.tongue.encode(branch.rewritten_to))
            if last in self._until:
                return thread.append("")
            return self._ignores_end and thread.append("")
        if self._ignores_end and last in self.dialect.ends:
            return thread.append("")
        if last in self._until:
            return not (resumed and resume.last) and thread.append("")
        if last in self._ends:
            self.run.refuse_fork(thread.task, "the end of a branch stood outside of one")
            return False
        ended_part = resumed and bool(resume.closer) and not resume.last
        return ended_part and self._replace(thread, self.tongue.encode(resume.closer))

    def _replace(self, thread: Thread, tokens: list[int]) -> bool:
        """Let a stopped thread go on with other tokens in place of its last one."""
        context = self._before_last(thread)
        segment = Segment(context, tokens, path=thread.segment.path)
        return thread.resume(context, "", segment=segment)

    def _before_last(self, thread: Thread) -> Context:
        """What a thread sees and has written, but for its last token."""
        if len(thread.segment) == 1:
            return thread.context
        return self.kept(thread, len(thread.end) - 1)

    # ---- forking ---------------------------------------------------------------------------------

    async def _fork(
        self, thread: Thread, depth: int, rounds: int
    ) -> Literal["joined", "serial"] | Closing:
        """Fork and join, or be refused; how it ended where the thread writes no more."""
        try:
            numbers = self._permitted(thread, depth, rounds)
        except ForkDenied as denied:
            self.run.refuse_fork(thread.task, str(denied))
            goes_on = denied.then == "serial" and thread.append("")
            return "serial" if goes_on else Closing(False)
        place = self._place(thread.end)
        ends = await self._branches(place, numbers, depth + 1, thread)
        join = self.format.join
        context = place.joined(ends, self.tongue.encode(join.between))
        cut = [number for number, end in zip(numbers, ends, strict=True) if not end.whole]
        if cut and self.format.branch.cut == "end":
            self.run.join_skipped = f"branch {cut[0]} was cut, and the family ends there"
            return Closing(False, end=context.then(self.tongue.encode(join.cut_after)))
        segment = Segment(context, self.tongue.encode(join.after))
        if thread.resume(context, "", segment=segment):
            return "joined"
        self.skip_join(thread)
        return Closing(False, end=context)

    def _permitted(self, thread: Thread, depth: int, rounds: int) -> list[str]:
        """The numbers of the branches that a fork may have.

        Raises:
            ForkDenied: it may have none.
        """
        fork = self.format.fork
        if why := self._used_up(thread, depth):
            raise ForkDenied(why, fork.limited)
        self.check_rounds(rounds)
        numbers = self._numbers(thread)
        return numbers[: self.permitted(thread.task, len(numbers))]

    def _used_up(self, thread: Thread, depth: int) -> str | None:
        """Which bound a further fork would break; None where it breaks none."""
        fork, bounds = self.format.fork, self.bounds
        if depth >= min(fork.depth, bounds.depth):
            return f"forks are {depth} deep already"
        room = thread.room
        if bounds.critical:
            room = min(room, bounds.critical - thread.chain)
        if room < fork.room:
            return f"only {max(room, 0)} tokens are left"
        header = self.tongue.encode(self.format.branch.lead + self.format.branch.header, "1")
        least = self.run.reserve // (depth + 2) + len(header)
        return None if thread.room > least else "its branches would have no room"

    def _numbers(self, thread: Thread) -> list[str]:
        """The numbers that a thread's plan gives to its branches.

        Raises:
            ForkDenied: it is malformed.
        """
        fork = self.format.fork
        written = thread.segment.tokens[thread.segment.given :]
        if lacks := [one for one in fork.requires if self.tongue.ids[one] not in written]:
            raise ForkDenied(f"no {lacks[0]} was opened", fork.malformed)
        if found := [one for one in fork.forbids if self.tongue.ids[one] in written]:
            raise ForkDenied(f"a {found[0]} stands before it", fork.malformed)
        if fork.plan.width != "plan":
            asked = self.bounds.n if fork.plan.width == "caller" else 0
            return [str(one + 1) for one in range(asked or fork.plan.count)]
        try:
            return self.tongue.numbers(written)
        except ValueError as error:
            raise ForkDenied(str(error), fork.malformed) from error

    def _place(self, base: Context) -> ForkPlace:
        return ForkPlace(
            base=base,
            lead=self.tongue.encode(self.format.branch.lead),
            placement=self.placement,
            prompt=len(self.prompt),
        )

    async def _branches(
        self, place: ForkPlace, numbers: Sequence[str], depth: int, parent: Thread | None = None
    ) -> list[BranchEnd]:
        """Write all branches; those that have no end when enough have are cut where they stand."""
        self.run.forked = True
        fork = RunningFork(place=place, depth=depth, tasks=[], ends={})
        gang = self._gang(len(numbers))
        for index, number in enumerate(numbers, start=1):
            header = self.tongue.encode(self.format.branch.header, number)
            path = index if self.format.branch.marked and self._joins else 0
            segment = Segment(place.start, header, path=path)
            options = self._options(segment, depth, parent, gang, len(numbers))
            body = partial(self._branch, fork=fork, index=index, number=number)
            name = f"branch {number}"
            fork.tasks.append(self.run.spawn(body, place.start, name=name, options=options))
        if self.format.join.first is None:
            for task in fork.tasks:
                await task.result()
        else:
            await self.run.ended(fork.tasks)
        return [fork.ends[index] for index in sorted(fork.ends)]

    def _options(
        self, segment: Segment, depth: int, parent: Thread | None, gang: Gang | None, width: int
    ) -> ThreadOptions:
        rule = self.format.branch
        bounds = [rule.tokens, self._share(parent, width)]
        reserved = 0 if parent is None else parent.options.reserve
        return ThreadOptions(
            segment=segment,
            path=segment.path,
            stop=self._stop(depth),
            reserve=reserved + self.run.reserve // (depth + 1),
            most=min((bound for bound in bounds if bound is not None), default=None),
            chain=self.bounds.chain,
            sampling=self._sampling(),
            gang=gang,
        )

    def _share(self, parent: Thread | None, width: int) -> int | None:
        """The most tokens of each branch, where all of them together have what is left."""
        spare = self.format.branch.spare
        if spare is None or parent is None:
            return None
        return max(1, (parent.room - spare) // width)

    def _sampling(self) -> Sampling | None:
        """How a branch's tokens are drawn, where that differs."""
        rule, usual = self.format.branch, self.run.sampling
        if rule.temperature is None and rule.repetition_penalty is None:
            return None
        return replace(
            usual,
            temperature=self.run.temperature if rule.temperature is None else rule.temperature,
            repetition_penalty=rule.repetition_penalty or usual.repetition_penalty,
        )

    def _gang(self, width: int) -> Gang | None:
        """What lets branches advance in lock-step, where the first to end cuts the others."""
        racing = self.format.join.first is not None
        return Gang(size=width, lockstep=True) if racing else None

    async def _branch(self, thread: Thread, *, fork: RunningFork, index: int, number: str) -> None:
        rule, closing = self.format.branch, None
        try:
            closing = await self._write(thread, fork.depth)
            if closing.closed:
                bare = self._bare & set(thread.end.tokens[len(fork.place.start) :])
                tail = 0 if bare else await thread.write_more(rule.tail)
                closing = closing._replace(tail=tail)
                await self.run.turn(thread)
                fork.whole += self._needed <= set(thread.segment.tokens)
            thread.conclude()
            if fork.whole == self.format.join.first:
                others = [task for task in fork.tasks if task is not thread.task]
                await self.run.stop(others, after=thread)
        finally:
            end = self._ended(
                thread,
                closing,
                number,
                start=len(fork.place.start),
                closer=rule.closer,
                unclosed=rule.unclosed,
            )
            tail = 0 if closing is None else closing.tail
            fork.ends[index] = BranchEnd(
                end,
                end.tokens[len(fork.place.start) :],
                tail=tail,
                whole=closing is not None and closing.closed,
            )

    def _ended(
        self,
        thread: Thread,
        closing: Closing | None,
        number: str = "",
        *,
        start: int | None = None,
        closer: str,
        unclosed: str,
    ) -> Context:
        """All that a thread saw and wrote, with the end that it must have.

        ``closing`` is None for one that was cut where it stood; a branch ``start``ed behind so many
        tokens is filled up.
        """
        if closing is None or not thread.segment.tokens:
            return thread.end
        if closing.end is not None:
            given = self.tongue.encode(unclosed, number)
            return closing.end.then(given) if given else closing.end
        closed = closing.closed
        given = self.tongue.encode(closer if closed else unclosed, number)
        last = thread.segment.tokens[-1]
        joined = not self.format.join.votes
        drops = bool(closer) if closed else joined and last in self.dialect.ends
        context = self._before_last(thread) if drops else thread.end
        if closed and start is not None:
            length = len(context) + len(given) - start
            given += self.tongue.encode(self.placement.filler) * (-length % self.placement.multiple)
        if not given:
            return context
        return context.after(Segment(context, given, path=thread.segment.path))


@dataclass(kw_only=True)
class RunningFork:
    """A fork whose branches are being written."""

    place: ForkPlace
    depth: int
    tasks: list[Task[None]]
    ends: dict[int, BranchEnd]
    whole: int = 0
