"""A model before and after reinforcement learning: apr, and the skills that were not trained.

    python benchmarks/reinforced.py OUTPUT reason-5m runs/reinforced/model --sets four five skills

The models answer the same held-out problems; each later one is compared with the first, paired by
problem.  Greedy, but for workers that share a text, which are as they usually are.  A set that
OUTPUT has of a model already is kept.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from pruning import difference_interval, share_interval
from reasoning import Solution, load_model
from reasoning.evaluation import Arm, draw_problems, solve_all


class SkillSet(NamedTuple):
    """Problems, and how they are solved."""

    domain: str
    numbers: int
    count: int
    strategy: str
    context: int = 512


SETS = {
    "four": {"four": SkillSet("countdown", 4, 500, "apr:n=24")},
    "five": {"five": SkillSet("countdown", 5, 200, "apr:n=24")},
    "skills": {
        "single": SkillSet("countdown", 4, 300, "single"),
        "arithmetic": SkillSet("arithmetic", 4, 300, "single"),
        "multiverse": SkillSet("several", 5, 100, "multiverse:n=8", 1024),
        "workers": SkillSet("several", 5, 100, "hogwild:n=4", 1024),
        "paths": SkillSet("countdown", 4, 100, "parathinker:n=4"),
        "listing": SkillSet("enumeration", 40, 40, "group-think:n=4"),
    },
}


def measured(skill: SkillSet, model: str) -> dict[str, Any]:
    """A row of one model's answers to a set."""
    arm = Arm(strategy=skill.strategy, max_tokens=skill.context, parallel=32)
    problems = draw_problems(skill.domain, skill.count, numbers=skill.numbers, seed=0)
    solutions: list[Solution] = anyio.run(solve_all, load_model(model), arm, problems)
    right = [one.verified is True for one in solutions]
    count = len(right)
    return {
        **skill._asdict(),
        "accuracy": sum(right) / count,
        "ci95": [round(one, 4) for one in share_interval(sum(right), count)],
        "tokens": round(sum(one.usage.work_tokens for one in solutions) / count, 1),
        "span": round(sum(one.usage.span_tokens for one in solutions) / count, 1),
        "children": round(sum(len(one.threads) - 1 for one in solutions) / count, 2),
        "right": "".join(str(int(one)) for one in right),
    }


def compared(row: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """What a model gains on the first one, problem by problem."""
    pairs = zip(row["right"], first["right"], strict=True)
    gains = [float(int(one) - int(other)) for one, other in pairs]
    interval = [round(one, 4) for one in difference_interval(gains)]
    return {"gain": round(sum(gains) / len(gains), 4), "gain_ci95": interval}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("output", type=Path)
    parser.add_argument("models", nargs="+", help="names or folders; the first is before")
    parser.add_argument("--sets", nargs="+", choices=sorted(SETS), default=sorted(SETS))
    options = parser.parse_args()
    results: dict[str, Any] = {}
    if options.output.exists():
        results = json.loads(options.output.read_text())
    for name, skill in ((n, s) for one in options.sets for n, s in SETS[one].items()):
        for model in options.models:
            rows = results.setdefault(name, {})
            if model not in rows:
                rows[model] = measured(skill, model)
            rows[model] |= compared(rows[model], rows[options.models[0]])
            told = {key: value for key, value in rows[model].items() if key != "right"}
            print(name, model, told, flush=True)
            options.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
