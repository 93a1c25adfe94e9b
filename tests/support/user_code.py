"""What a user writes, over the public interface alone; type checkers read it and must know all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, assert_type

from orchestrator import Retry, Task, TaskGraph, Timeout
from pruning import Policy, Tally
from reasoning import (
    DOMAINS,
    POLICIES,
    STRATEGIES,
    LoadedModel,
    Problem,
    Reasoner,
    Run,
    Solution,
    Strategy,
    Thread,
    load_model,
    parse_policy,
    recognise,
    solve,
    solve_sync,
)


def count(text: str) -> int:
    return len(text)


def repeat(text: str, times: int) -> str:
    return text * times


def add_up(numbers: list[int]) -> int:
    return sum(numbers)


async def shout(text: str) -> str:
    return text.upper()


def graph() -> None:
    tasks = TaskGraph(limit=2)
    shouted = tasks.add(shout, "a", name="shout")
    assert_type(shouted, Task[str])
    counted = tasks.map(count, ["a", "b"])
    assert_type(counted, Task[list[int]])
    retried = tasks.map(shout, ["a"], retry=Retry(times=2), timeout=Timeout(run=9), priority=1)
    assert_type(retried, Task[list[str]])
    beside = tasks.map(repeat, ["a", "b"], [3, 4], name="r", resources={"cpu": 1})
    assert_type(beside, Task[list[str]])
    total = tasks.reduce(add_up, counted, arity=2, version="1", cache="results.db")
    assert_type(total, Task[int])
    assert_type(tasks.run_sync(shouted), str)


async def answer(thread: Thread) -> str | None:
    written = await thread.write()
    assert_type(written.text, str)
    return thread.conclude()


@dataclass(frozen=True, kw_only=True)
class Twice(Strategy):
    name: ClassVar[str] = "twice"

    n: int = 2

    async def solve(self, run: Run) -> Tally:
        async with run.graph:
            for _ in range(self.n):
                task = run.spawn(answer, run.dialect.prompt(run.problem))
                assert_type(task, Task[str | None])
        return self.tally(run)


async def asynchronous(model: LoadedModel, problem: Problem) -> None:
    assert_type(await solve(problem, model=model, strategy=Twice(n=3), temperature=0.5), Solution)
    async with Reasoner(model) as reasoner:
        solution = await reasoner.solve("Compute 2 + 3", policy="async:k=4", seed=1)
        assert_type(solution, Solution)


def synchronous() -> None:
    solution = solve_sync("Compute 2 + 3", strategy="single", max_tokens=64)
    assert_type(solution, Solution)
    assert_type(solution.answer, str | None)
    assert_type(solution.votes, dict[str, int])
    assert_type(solution.to_json(), str)
    assert_type(load_model("reason-1m", backend="embedded:threads=1"), LoadedModel)
    assert_type(recognise("Compute 2 + 3"), Problem)
    assert_type(STRATEGIES.make("twice", n=2), Strategy)
    assert_type(POLICIES.names, list[str])
    assert_type(DOMAINS.names, list[str])
    policy: Policy[object] = parse_policy("sc:n=4")
    assert_type(policy.label, str)
