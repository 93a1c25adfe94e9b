"""Accuracy, work and span of every strategy on held-out problems, at temperature 0 where greedy.

    python benchmarks/accuracy.py countdown benchmarks/results/countdown.json
    python benchmarks/accuracy.py five      benchmarks/results/five.json
    python benchmarks/accuracy.py arithmetic benchmarks/results/arithmetic.json

``countdown`` has both arms at every context.  ``five`` adds serial arms at apr's total tokens and
at apr's span.  A greedy run in which no thread came near its context is the same at any larger
one, so larger contexts repeat its row instead of computing it again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import anyio

from reasoning import Model
from reasoning.bench import Arm, Results, Row, measure, problems, progress_line

CONTEXTS = (256, 512, 1024, 2048, 4096)


class Grid:
    """Measures rows on one list of problems."""

    def __init__(self, model: Model, domain: str, count: int, numbers: int) -> None:
        self.model = model
        self.domain = domain
        self.numbers = numbers
        self.sample = problems(domain, count, numbers=numbers, seed=0)
        self.rows: list[Row] = []

    def measure(self, arm: str, context: int) -> Row:
        row = anyio.run(
            measure, self.model, Arm.parse(arm), self.sample, None, 0, context, 64, lambda: None
        )
        return self.add(row)

    def add(self, row: Row) -> Row:
        self.rows.append(row)
        print(progress_line(row), flush=True)
        return row

    def sweep(self, arm: str) -> list[Row]:
        """One row per context; unchanged ones are repeated."""
        done: list[Row] = []
        for context in CONTEXTS:
            if done and done[-1].longest < done[-1].max_tokens and not done[-1].temperature:
                done.append(self.add(done[-1].model_copy(update={"max_tokens": context})))
            else:
                done.append(self.measure(arm, context))
        return done

    def write(self, path: Path) -> None:
        results = Results(
            domain=self.domain,
            model=self.model.name,
            numbers=self.numbers if self.domain == "countdown" else None,
            seed=0,
            parallel=64,
            results=self.rows,
        )
        path.write_text(results.model_dump_json(by_alias=True, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("set", choices=("countdown", "five", "arithmetic"))
    parser.add_argument("output", type=Path)
    parser.add_argument("--n", type=int, default=500, help="problems")
    parser.add_argument("--model", default="reason-5m")
    options = parser.parse_args()
    model = Model.load(options.model)
    if options.set == "arithmetic":
        grid = Grid(model, "arithmetic", options.n, 4)
        for arm in ("single", "self-consistency:n=4", "self-consistency:n=16"):
            grid.measure(arm, 512)
    else:
        grid = Grid(model, "countdown", options.n, 5 if options.set == "five" else 4)
        single, apr = grid.sweep("single"), grid.sweep("apr:n=24")
        same = apr[1]
        samples = max(2, round(same.tokens / single[1].tokens))
        grid.measure(f"self-consistency:n={samples}", same.max_tokens)
        grid.measure("single", max(16, round(same.span)))
    grid.write(options.output)


if __name__ == "__main__":
    main()
