"""Every policy on the shipped models, online and replayed.

    python benchmarks/policies.py KEPT [DOMAIN …]

Held-out arithmetic and Countdown questions.  First eight traces of each run to their end, with all
that any policy observes, and are kept in the folder KEPT; then each policy steers live traces of
the same seeds.  Beside it stand its replay over the kept traces, which must decide alike, and
self-consistency with as many tokens.  Writes ``results/policies.json`` after each policy, and goes
on from there: what was measured live is not measured again, and what follows from the kept traces
is computed anew.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import anyio

from pruning import (
    Began,
    Decisions,
    Evaluator,
    FixedSamples,
    Gain,
    Launch,
    Observation,
    Policy,
    Question,
    Replay,
    Summary,
    share_interval,
)
from pruning.judge.prefixes import same_words
from pruning.policies.ballots import Ballots
from pruning.policy import Need
from reasoning import Reasoner, Solution, load_model
from reasoning.evaluation import draw_problems, read_traces
from reasoning.models.loaded import LoadedModel
from reasoning.policies import parse_policy
from reasoning.problems import Problem
from reasoning.run.report import report

RESULTS = Path(__file__).parent / "results" / "policies.json"
QUESTIONS, TRACES, PARALLEL, SHUFFLES = 300, 8, 8, 8
TEMPERATURE, PROBES = 0.7, 24
SETS = {
    # of each domain the model that is neither always right nor always wrong, context, cap
    "arithmetic": ("reason-1m", 256, 96),
    "countdown": ("reason-5m", 384, 240),
}
POLICIES = (
    "sc:n=8",
    "sc:n=4",
    "async:k=8",
    "adaptive:n=8",
    "esc:w=4,n=8",
    "default:k=8,threshold=0.95,cap={cap},probe_every={probes}",
    "cap:n=8,tokens={cap}",
    "convergence:n=8,streak=2,probe_every={probes}",
    "parallel-probe:n=8,probe_every={probes},warmup=1,patience=2,stable=3",
    "deepconf:n=8,warmup=4,window=32,keep=90",
    "deepconf-offline:n=8,keep=50,window=32",
    "deepprune:n=8,prefix={probes}",
    "saturation:k=4,n=8",
    "best-of-n:n=8",
)


@dataclass(frozen=True, kw_only=True)
class Everything(FixedSamples):
    """All traces to their end, and everything observed of them."""

    name: ClassVar[str] = "everything"
    needs: ClassVar[frozenset[Need]] = frozenset({"confidence"})
    n: int = TRACES

    def begin(self, rng: Random) -> Ballots:
        return Ballots(max_traces=self.n, launched=self.n, running=self.n)

    def observe(self, state: Ballots, observation: Observation) -> Decisions:
        if isinstance(observation, Began):
            return (Launch(count=self.n, reason="all to their end", probe_every=PROBES),)
        return super().observe(state, observation)


async def solve(
    model: LoadedModel, domain: str, sample: Sequence[Problem], policy: Policy[Any]
) -> tuple[list[Solution], float, int]:
    """All questions, some at a time: the solutions, the seconds, the tokens leaked."""
    found: dict[int, Solution] = {}
    slots = anyio.Semaphore(PARALLEL)

    async def one(reasoner: Reasoner, index: int) -> None:
        async with slots:
            found[index] = await reasoner.solve(
                sample[index],
                policy=policy,
                judge=same_words,
                temperature=TEMPERATURE,
                seed=index,
                max_tokens=SETS[domain][1],
            )

    started = time.monotonic()
    async with Reasoner(model) as reasoner:
        async with anyio.create_task_group() as group:
            for index in range(len(sample)):
                group.start_soon(one, reasoner, index)
        seconds = time.monotonic() - started
    late = reasoner.leaked - sum(s.usage.leaked_tokens for s in found.values())
    leaked = sum(s.usage.leaked_tokens for s in found.values()) + max(0, late)
    return [found[index] for index in range(len(sample))], seconds, leaked


def whole(model: LoadedModel, domain: str, sample: Sequence[Problem], kept: Path) -> list[Question]:
    """Traces to their end, from the file that keeps them where there is one."""
    path = kept / f"{model.name}-{domain}-{len(sample)}.jsonl.gz"
    if not path.exists():
        solutions, _, _ = anyio.run(solve, model, domain, sample, Everything())
        lines = (report(solution).model_dump_json(by_alias=True) for solution in solutions)
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return read_traces([str(path)])


def online(solutions: Sequence[Solution], seconds: float, leaked: int) -> dict[str, Any]:
    count = len(solutions)
    right = [float(solution.verified is True) for solution in solutions]
    steered = [solution.steering for solution in solutions if solution.steering]
    tokens = sum(one.tokens for one in steered)
    return {
        "accuracy": round(sum(right) / count, 4),
        "tokens": round(tokens / count, 1),
        "probe_tokens": round(sum(one.probe_tokens for one in steered) / count, 1),
        "span": round(sum(one.clock for one in steered) / count, 1),
        "wall_s": round(seconds, 2),
        "leaked_share": round(leaked / tokens, 5),
    }


def replayed(
    policy: Policy[Any], logs: Sequence[Sequence[Any]], questions: Sequence[Question]
) -> dict[str, Any]:
    """The policy over the kept traces, in the order of the live ones."""
    runs = [
        Replay(
            policy=policy, stored=q.traces, probe_every=q.probe_every, seed=seed, judge=same_words
        )
        for seed, q in enumerate(questions)
    ]
    ends = [run.run() for run in runs]
    count = len(questions)
    alike = sum(end.log == log for end, log in zip(ends, logs, strict=True))
    right = sum(end.answer in q.right for end, q in zip(ends, questions, strict=True))
    return {
        "accuracy": round(right / count, 4),
        "tokens": round(sum(end.tokens for end in ends) / count, 1),
        "span": round(sum(end.span for end in ends) / count, 1),
        "alike": alike,
    }


def matched(summary: Summary, gained: Gain) -> dict[str, Any]:
    """Self-consistency with as many tokens, over several orders of the kept traces."""
    return {
        "policy": summary.policy,
        "accuracy": round(summary.accuracy, 4),
        "tokens": round(summary.tokens, 1),
        "gain": round(gained.mean, 4),
        "gain_ci95": [round(value, 4) for value in gained.ci95],
    }


def measured(
    model: LoadedModel, domain: str, sample: Sequence[Problem], text: str
) -> tuple[dict[str, Any], list[Sequence[Any]]]:
    """What a policy comes to on live traces, and what it decided on each question."""
    solutions, seconds, leaked = anyio.run(solve, model, domain, sample, parse_policy(text))
    logs = [() if one.steering is None else one.steering.log for one in solutions]
    return online(solutions, seconds, leaked), logs


def main(kept: Path, domains: Sequence[str]) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"results": []}
    rows = {(row["domain"], row["policy"]): row for row in stored["results"]}
    for domain in domains:
        name, _, cap = SETS[domain]
        model = load_model(name, settings=("threads=1",))
        sample = draw_problems(domain, QUESTIONS, numbers=4, seed=0)
        questions = whole(model, domain, sample, kept)
        evaluator = Evaluator(questions=questions, shuffles=SHUFFLES, judge=same_words)
        for template in POLICIES:
            text = template.format(cap=cap, probes=PROBES)
            row = rows.setdefault((domain, text), {"domain": domain, "model": model.name})
            row |= {"policy": text, "n": len(sample)}
            if "online" not in row:
                row["online"], logs = measured(model, domain, sample, text)
                row["replayed"] = replayed(parse_policy(text), logs, questions)
            right = round(row["online"]["accuracy"] * len(sample))
            low, high = share_interval(right, len(sample))
            row["online"]["ci95"] = [round(low, 4), round(high, 4)]
            compared = evaluator.compare(parse_policy(text))
            row["token_matched"] = matched(compared.token_matched, compared.gains[1])
            print(json.dumps(row), flush=True)
            results = {
                "schema": "reason.benchmarks.policies/1",
                "temperature": TEMPERATURE,
                "parallel": PARALLEL,
                "results": list(rows.values()),
            }
            RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("give a folder to keep traces in: python benchmarks/policies.py KEPT [DOMAIN …]")
    main(Path(sys.argv[1]), sys.argv[2:] or [*SETS])
