"""A strategy of one's own: two samples, and two more only if they disagree.

On the command line: reason solve "Compute 12 + 5 * 3" \
    --strategy examples/own_strategy.py:SecondOpinion:more=4
"""

from dataclasses import dataclass
from typing import ClassVar

from pruning import Tally
from reasoning import Run, Strategy, Thread, solve_sync


async def answer(thread: Thread) -> str | None:
    await thread.write()
    return thread.conclude()


@dataclass(frozen=True, kw_only=True)
class SecondOpinion(Strategy):
    name: ClassVar[str] = "second-opinion"
    default_temperature: ClassVar[float] = 0.7

    n: int = 2
    more: int = 2

    async def solve(self, run: Run) -> Tally:
        prompt = run.dialect.prompt(run.problem)
        async with run.graph:
            first = [run.spawn(answer, prompt) for _ in range(self.n)]
            answers = {await task.result() for task in first}
            for _ in range(self.more if len(answers) > 1 else 0):
                run.spawn(answer, prompt)
        return self.tally(run)


if __name__ == "__main__":
    solution = solve_sync("Compute 12 + 5 * 3", strategy=SecondOpinion(more=3))
    print(solution.answer, solution.votes, len(solution.threads), "threads")
