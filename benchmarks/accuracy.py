"""Accuracy, work and span of every strategy on held-out problems, at temperature 0 where greedy.

    python benchmarks/accuracy.py countdown benchmarks/results/countdown.json
    python benchmarks/accuracy.py five      benchmarks/results/five.json
    python benchmarks/accuracy.py arithmetic benchmarks/results/arithmetic.json
    python benchmarks/accuracy.py atts      benchmarks/results/atts.json --n 200

The last is arithmetic, too, with reason-1m as the draft of reason-5m, four problems at a time.
Both Countdown sets have both arms at every context, and then the serial arm at apr's total tokens
(samples and a vote) and at apr's span.  ``wall_s`` adds up over the contexts of an arm.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio

from reasoning import Solution, load_model
from reasoning.evaluation import Arm, BenchResults, BenchRow, draw_problems, solve_all, summarise
from reasoning.models.loaded import LoadedModel

CONTEXTS = (256, 512, 1024, 2048, 4096)


class Grid:
    """Measures rows on one list of problems."""

    def __init__(
        self,
        model: LoadedModel,
        domain: str,
        count: int,
        *,
        numbers: int | None = None,
        draft: LoadedModel | None = None,
        parallel: int = 64,
    ) -> None:
        self.model = model
        self.draft = draft
        self.parallel = parallel
        self.domain = domain
        self.numbers = numbers
        self.sample = draw_problems(domain, count, numbers=numbers or 4, seed=0)
        self.rows: list[BenchRow] = []

    def measure(self, name: str, contexts: Sequence[int]) -> list[BenchRow]:
        """One row per context.

        A greedy run in which no thread was cut by its context is the same at any larger one, so it
        is kept, and only the others are run again.
        """
        arms = [
            Arm(strategy=name, max_tokens=context, parallel=self.parallel) for context in contexts
        ]
        strategy = arms[0].choose(self.model, self.sample[0])
        greedy = strategy.default_temperature == 0
        done: dict[int, Solution] = {}
        rows = []
        wall = 0.0
        for arm in arms:
            started = time.monotonic()
            indices = [i for i in range(len(self.sample)) if i not in done]
            problems = [self.sample[i] for i in indices]
            found = anyio.run(partial(solve_all, self.model, arm, problems, draft=self.draft))
            wall += time.monotonic() - started
            solutions = done | dict(zip(indices, found, strict=True))
            rows.append(summarise(arm, strategy, list(solutions.values()), wall))
            row = rows[-1]
            print(f"{row.strategy} @ {row.max_tokens}: {row.accuracy:.1%} {row.ci95}", flush=True)
            if greedy:
                done = {
                    i: s
                    for i, s in solutions.items()
                    if not any(thread.cut for thread in s.threads)
                }
        self.rows += rows
        return rows

    def write(self, path: Path) -> None:
        results = BenchResults(
            domain=self.domain,
            model=self.model.name,
            draft=None if self.draft is None else self.draft.name,
            numbers=self.numbers,
            seed=0,
            parallel=self.parallel,
            results=self.rows,
        )
        path.write_text(results.model_dump_json(by_alias=True, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("set", choices=("countdown", "five", "arithmetic", "atts"))
    parser.add_argument("output", type=Path)
    parser.add_argument("--n", type=int, default=500, help="problems")
    parser.add_argument("--model", default="reason-5m")
    options = parser.parse_args()
    model = load_model(options.model)
    if options.set == "arithmetic":
        grid = Grid(model, "arithmetic", options.n)
        for arm in ("single", "self-consistency:n=4", "self-consistency:n=16"):
            grid.measure(arm, [512])
    elif options.set == "atts":
        draft = load_model("reason-1m")
        grid = Grid(model, "arithmetic", options.n, draft=draft, parallel=4)
        drafted = ("atts:n=4", "atts:n=4,chunk=64", "atts:n=4,rejects=2")
        for arm in ("self-consistency:n=4", *drafted):
            grid.measure(arm, [512])
    else:
        numbers = 5 if options.set == "five" else 4
        grid = Grid(model, "countdown", options.n, numbers=numbers)
        single = grid.measure("single", CONTEXTS)
        apr = grid.measure("apr:n=24", CONTEXTS)
        same = apr[CONTEXTS.index(512)]
        samples = max(2, round(same.tokens / single[CONTEXTS.index(512)].tokens))
        grid.measure(f"self-consistency:n={samples}", [512])
        grid.measure("single", [max(16, round(same.span))])
    grid.write(options.output)


if __name__ == "__main__":
    main()
