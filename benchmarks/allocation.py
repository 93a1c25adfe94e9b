"""One budget over many questions, beside the default policy and self-consistency.

    python benchmarks/allocation.py DATA KEPT

The sets and folders are those of `default_policy.py`.  On each set, four allocations are replayed:
the first begins with four samples of each question, at a mean of eight; two spend as many tokens as
the default policy does there, in six rounds and in three; the last begins with what the default
policy leaves, and spends three samples more.  Each is compared with self-consistency at as many
tokens, and with the default policy, question by question.
Writes ``results/allocation.json``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from default_policy import points, sets

from pruning import Allocation, Evaluator, ProbedConsensus, Summary, allocate, gain

RESULTS = Path(__file__).parent / "results" / "allocation.json"


MORE = 3
"""Samples a question that an allocation may spend which begins with the default policy."""


def measure(evaluator: Evaluator, allocation: Allocation, default: Summary) -> dict[str, Any]:
    """An allocation on one set; spans are of the whole batch, which waits for its slowest."""
    done = allocate(evaluator, allocation)
    compared = evaluator.beside(done.summary)
    return {
        "allocation": allocation.label,
        "accuracy": round(done.summary.accuracy, 4),
        "tokens": round(done.summary.tokens),
        "span": round(done.span),
        "rounds": round(done.rounds, 2),
        "equal_tokens": points(compared.gains[1]),
        "over_default": points(gain(done.summary, default)),
        "tokens_of_default": round(done.summary.tokens / default.tokens, 3),
    }


def main(data: Path, kept: Path) -> None:
    rows = []
    for name, questions, orders in sets(data, kept):
        evaluator = Evaluator(questions=questions, shuffles=orders)
        default = evaluator.evaluate(ProbedConsensus())
        mean = round(default.tokens / evaluator.baseline(1).tokens, 2)
        first = min(4, int(mean))
        for allocation in (
            Allocation(),
            Allocation(mean=mean, first=first),
            Allocation(mean=mean, first=first, rounds=3),
            Allocation(mean=round(mean + MORE, 2), first=0),
        ):
            row = {"set": name, "questions": len(questions)}
            rows.append(row | measure(evaluator, allocation, default))
            print(rows[-1], flush=True)
    results = {"schema": "reason.benchmarks.allocation/1", "results": rows}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("give two folders: python benchmarks/allocation.py DATA KEPT")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
