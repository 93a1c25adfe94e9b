"""Threads that share what they wrote, on the shipped model: what sharing is worth.

    python benchmarks/sharing.py benchmarks/results/sharing.json     # about half an hour

Held-out problems, temperature 0.  ``steps`` is the longest chain of generated tokens, ``degree``
all generated tokens over it, ``duplicates`` the lines that did what another had done.
Each set of problems has a serial arm, and the workers have blind ones that see nothing of each
other.  ``latency`` is what a step of the same path costs beside seven others.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio

from reasoning import Solution, load_model
from reasoning.evaluation import Arm, draw_problems, solve_all, summarise
from reasoning.language import markup
from reasoning.language.trained import finished_lines
from reasoning.models.loaded import LoadedModel
from reasoning.problems import Problem

SETS: dict[str, tuple[str, int, int, int, tuple[str, ...]]] = {
    "several": (
        *("several", 5, 200, 2048),
        (
            *("single", "multiverse"),
            *("hogwild:n=1", "hogwild:n=4", "hogwild:n=4,blind=true"),
            *("hogwild:n=4,layout=contiguous", "hogwild:n=4,layout=interleaved"),
            *("group-think:n=4",),
        ),
    ),
    "paths": (
        *("countdown", 4, 300, 512),
        (
            "single",
            "parathinker:n=2",
            "parathinker:n=4",
            "parathinker:n=8",
            "parathinker:n=8,need=8",
        ),
    ),
    "enumeration": (
        *("enumeration", 40, 40, 2048),
        (
            *("group-think:n=1", "group-think:n=2", "group-think:n=4", "group-think:n=4,lag=1"),
            *("group-think:n=4,blind=true", "hogwild:n=1", "hogwild:n=4"),
        ),
    ),
    "shortest-paths": (
        *("shortest-paths", 4, 100, 2048),
        (
            *(
                "group-think:n=1",
                "group-think:n=2",
                "group-think:n=4",
                "group-think:n=4,blind=true",
            ),
            *("hogwild:n=4",),
        ),
    ),
}
"""Domain, size, problems, context, and arms."""


def measure(
    model: LoadedModel, sample: Sequence[Problem], name: str, context: int
) -> dict[str, Any]:
    """One row."""
    arm = Arm(strategy=name, max_tokens=context, parallel=16)
    started = time.monotonic()
    found = anyio.run(solve_all, model, arm, sample)
    wall = time.monotonic() - started
    line = summarise(arm, arm.choose(model, sample[0]), found, wall).model_dump()
    count = len(found)
    line["steps"] = round(sum(map(steps, found)) / count, 1)
    generated = sum(s.usage.completion_tokens for s in found) / count
    line["generated"] = round(generated, 1)
    line["degree"] = round(sum(s.usage.completion_tokens / steps(s) for s in found) / count, 2)
    line["duplicates"] = round(sum(map(duplicates, found)) / count, 2)
    return line


def steps(solution: Solution) -> int:
    """The longest chain of generated tokens: a thread's own, and its longest child's."""
    children: dict[str | None, list[str]] = {}
    tokens = {thread.id: thread.tokens for thread in solution.threads}
    for thread in solution.threads:
        children.setdefault(thread.parent, []).append(thread.id)

    def chain(id: str) -> int:
        return tokens.get(id, 0) + max(map(chain, children.get(id, [])), default=0)

    return max(1, *(chain(t.id) for t in solution.threads if t.parent not in tokens))


def duplicates(solution: Solution) -> int:
    """Lines that workers finished of an item that another one had done or was doing."""
    lines = finished_lines([thread.text for thread in solution.threads])
    heads = [line.partition(" : ")[0].strip(f" {markup.WAIT}") for line in lines]
    items = [head.rpartition(markup.WAIT)[2].strip() for head in heads]
    return len(items) - len(set(items))


def latency(model: LoadedModel, sample: Sequence[Problem]) -> dict[str, float]:
    """Milliseconds of a step of one path alone and of eight together, in turns."""
    spent = {1: [0.0, 0], 8: [0.0, 0]}
    for problem in sample:
        for paths in spent:
            arm = Arm(strategy=f"parathinker:n={paths},need={paths}", parallel=1)
            started = time.perf_counter()
            found = anyio.run(solve_all, model, arm, [problem])
            spent[paths][0] += time.perf_counter() - started
            spent[paths][1] += steps(found[0])
    one, eight = (1e3 * seconds / count for seconds, count in spent.values())
    return {"one_ms": round(one, 3), "eight_ms": round(eight, 3), "ratio": round(eight / one, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", help="by default the shipped one")
    parser.add_argument(
        "--set", dest="sets", choices=SETS, action="append", help="only this; the others stay"
    )
    parser.add_argument("--problems", type=int, help="instead of each set's own number")
    options = parser.parse_args()
    model = load_model(options.model)
    report: dict[str, Any] = {"schema": "reason.sharing/1", "model": model.name, "sets": {}}
    if options.sets and options.output.exists():
        report |= json.loads(options.output.read_text())
    for name in options.sets or SETS:
        domain, size, count, context, arms = SETS[name]
        sample = draw_problems(domain, options.problems or count, numbers=size, seed=0)
        rows = []
        for arm in arms:
            rows.append(measure(model, sample, arm, context))
            kept = ("strategy", "accuracy", "coverage", "span", "steps", "degree", "duplicates")
            print(name, {key: rows[-1][key] for key in kept}, flush=True)
        report["sets"][name] = {"domain": domain, "size": size, "results": rows}
        if name == "paths":
            report["latency"] = latency(model, sample[:30])
            print(report["latency"], flush=True)
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
