"""PaCoRe: rounds of whole answers, each round in view of the one before."""

from __future__ import annotations

import random
from collections.abc import Sequence

from orchestrator import Task, current_task
from reasoning.run.thread import Thread, ThreadOptions
from reasoning.strategies.tongues.speaker import ForkDenied, Speaker
from reasoning.values.context import Context

SHUFFLED = 42
THOUGHT = "</think>"


class ReferenceRounds(Speaker):
    """Parallel coordinated reasoning (arXiv 2601.05593): the last round's answer is the result.

    The first round answers the question; every later one is given the answers of the round before,
    without their thoughts, in an order that is the same for the same answers.
    """

    def start(self) -> None:
        self.run.graph.add(self._rounds, name="rounds")

    async def _rounds(self) -> None:
        widths = [*self.format.widths[: self.bounds.rounds]] or [1]
        if self.bounds.n:
            widths[0] = self.bounds.n
        context = self.prompt
        task = current_task()
        assert task is not None
        for number, asked in enumerate(widths[:-1], start=1):
            try:
                width = self.permitted(task, asked)
            except ForkDenied as denied:
                self.run.refuse_fork(task, str(denied))
                break
            self.run.forked = True
            threads = [self._spawn(context, f"answer {number}.{k + 1}") for k in range(width)]
            answers = [await task.result() for task in threads]
            context = self.dialect.asked_again(self.run.problem, ordered(answers))
        with self.run.go_on(context, self._options()) as thread:
            await self._answer(thread)
            self.tell(thread.task.id, thread.end)

    def _options(self) -> ThreadOptions:
        return ThreadOptions(chain=self.bounds.chain)

    def _spawn(self, context: Context, name: str) -> Task[str]:
        return self.run.spawn(self._answer, context, name=name, options=self._options())

    async def _answer(self, thread: Thread) -> str:
        await thread.write()
        thread.conclude()
        return thread.own_text


def ordered(answers: Sequence[str]) -> list[str]:
    """What was said after the thoughts, in an order that no thread's speed decides."""
    said = sorted(filter(None, (one.rpartition(THOUGHT)[2].strip() for one in answers)), key=len)
    random.Random(SHUFFLED).shuffle(said)
    return said
