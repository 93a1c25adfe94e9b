"""ATTS: a small model drafts, a larger one reads along and steps in where a chunk is strange.

At a terminal: ``reason solve "Compute (17*3+5)*4-12" --strategy atts --draft reason-1m``.
"""

from __future__ import annotations

from collections import Counter

import anyio

from pruning import Accept, Escalate
from reasoning import Reasoner, load_model
from reasoning.evaluation import draw_problems


async def main() -> None:
    decided: Counter[str] = Counter()
    right = 0
    small, large = load_model("reason-1m"), load_model("reason-5m")
    async with Reasoner(large, draft=small) as reasoner:
        for problem in draw_problems("arithmetic", 6, numbers=4, seed=0):
            solution = await reasoner.solve(problem, strategy="atts:n=3,chunk=12")
            assert solution.steering is not None
            right += solution.verified is True
            for told, decision in solution.steering.log:
                if isinstance(decision, Accept | Escalate):
                    decided[decision.kind] += 1
                    if len(decided) < 3 and sum(decided.values()) < 8:
                        print(
                            f"{told:3} chain {decision.trace}: {decision.kind}: {decision.reason}"
                        )
    steps = sum(decided.values())
    print(
        f"{right} of 6 right; the larger model wrote after {decided['escalate']} of {steps} steps"
    )


anyio.run(main)
