"""Measure judges on three sources of traces.

    python benchmarks/judge.py ARITHMETIC COUNTDOWN DATA [PLAN …]

The first two are traces of ours, by ``reason eval arithmetic --limit 240 --seed 11 --temperature 1
-o ARITHMETIC``, and the same with ``countdown --limit 85``.  DATA has the file
``llama8b-qwq32b-math500.jsonl.gz``.  Writes
``results/judge.json``, arm by arm, or only those plans whose numbers are given:

- AUROC within questions and pooled, beside the difficulty oracle and TF-IDF, on unseen questions;
- what Learn-then-Test allows on one half of those, and what DeepPrune then comes to on the other
  half, beside self-consistency with as many traces and with as many tokens; the same at the
  paper's threshold of 0.5 without a calibration, so that a judge with a shut gate is seen as well;
- what the judge costs beside the run that it prunes (own traces: the embedded engine); a source's
  run is measured once, and with numbers of plans not again.

Half of each source's questions train the judge; no data and no judge is kept.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import torch

from pruning import (
    Cut,
    DeepPrune,
    Evaluator,
    Gain,
    Policy,
    Question,
    Summary,
    pairs,
)
from pruning.judge.pairs import split, unseen
from reasoning.evaluation import Arm, draw_problems, read_traces, solve_all
from reasoning.judging.calibration import RiskTarget, apply, calibrate
from reasoning.judging.evaluation import EvaluationOptions, evaluate
from reasoning.judging.judge import LearnedJudge
from reasoning.judging.training import JudgeRecipe, save, train
from reasoning.models.loading import load_model
from reasoning.policies import parse_policy

RESULTS = Path(__file__).parent / "results" / "judge.json"
CHAINS = "llama8b-qwq32b-math500.jsonl.gz"
GOALS = (RiskTarget(risk=0.1, delta=0.1), RiskTarget(risk=0.2, delta=0.1))
SHUFFLES, ORDERS = 2, 2
SHORT_OF_ALL = ({"k2": 4}, {"k2": 2}, {"k2": 1}, {"k2": 1, "k3": 4}, {"k2": 1, "k3": 1})
"""How many traces of the largest cluster, and of clusters of one, are finished, beside all."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A judge to train, and how many traces of each question to evaluate it on."""

    source: str
    recipe: JudgeRecipe
    each: int

    @property
    def name(self) -> str:
        recipe = self.recipe
        frozen = ", frozen" if recipe.frozen else ""
        return f"{recipe.form}, {recipe.encoder}{frozen}, {recipe.cut.by}"


OWN = {"own arithmetic": "arithmetic", "own Countdown": "countdown"}
"""Sources that are ours, and their domains."""
ARITHMETIC, COUNTDOWN, MATH = *OWN, "MATH-500 chains"
SHORT, MIDDLE, LONG = Cut(tokens=40), Cut(tokens=80), Cut(tokens=500)
SCRATCH = JudgeRecipe(
    form="bi", encoder="scratch", cut=SHORT, max_length=120, epochs=4, most=40, lr=1e-3
)
FROZEN = JudgeRecipe(form="bi", cut=SHORT, max_length=60, frozen=True, epochs=20)
PLANS = (
    Plan(source=ARITHMETIC, each=16, recipe=SCRATCH),
    Plan(source=ARITHMETIC, each=16, recipe=FROZEN),
    Plan(source=COUNTDOWN, each=16, recipe=replace(SCRATCH, cut=MIDDLE, max_length=160)),
    Plan(source=COUNTDOWN, each=16, recipe=replace(FROZEN, cut=MIDDLE, max_length=120)),
    Plan(source=MATH, each=16, recipe=replace(FROZEN, cut=LONG, max_length=120)),
    Plan(
        source=MATH,
        each=16,
        recipe=replace(FROZEN, cut=replace(LONG, by="steps"), max_length=120),
    ),
    Plan(
        source=MATH,
        each=6,
        recipe=JudgeRecipe(form="cross", cut=LONG, max_length=120, epochs=1, most=16),
    ),
)


def measure(plan: Plan, questions: Sequence[Question], run_s: float | None) -> dict[str, Any]:
    """Train, evaluate, calibrate and replay one judge; ``run_s`` is what a run costs, if known."""
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        judge = save(train(questions, plan.recipe), Path(folder) / "judge")
        trained = time.process_time() - begun
        fresh = [
            replace(question, traces=question.traces[: plan.each])
            for question in unseen(questions, judge.card.seen)
        ]
        found = evaluate(judge, fresh, EvaluationOptions(each=plan.each))
        row = {
            "source": plan.source,
            "judge": plan.name,
            "questions": found.questions,
            "mixed": found.mixed,
            "pairs": found.pairs,
            "agreeing": found.agreeing,
            "trained_on": judge.card.pairs,
            "train_cpu_s": round(trained, 1),
            "rankings": [one.model_dump() for one in found.rankings],
            "brier": found.brier,
            "threshold": found.threshold,
            "clusterings": [one.model_dump() for one in found.clusterings],
            "judge_tokens": found.cost.tokens,
            "gate": [gate(judge, fresh, plan, goal) for goal in GOALS],
            "uncalibrated": replay(judge, split(fresh, 0.5, seed=1)[1], policy_of(plan)),
        }
        if plan.source in OWN:
            run, seconds = run_s or solving(OWN[plan.source]), judging(judge, fresh)
            row["judge_s"] = round(seconds, 5)
            row["run_s"] = round(run, 5)
            row["share_of_run"] = round(seconds / run, 4)
    return row


def judging(judge: LearnedJudge, questions: Sequence[Question]) -> float:
    """CPU seconds to judge every pair of a question, from nothing, mean over questions."""
    judge.forget()
    begun = time.process_time()
    for question in questions:
        judge.judge([judge.texts(pair.one, pair.other) for pair in pairs(question)])
    return (time.process_time() - begun) / len(questions)


def solving(domain: str, count: int = 20) -> float:
    """CPU seconds of self-consistency with 16 traces on the embedded engine, mean over problems."""
    model = load_model(settings=("threads=1",))
    sample = draw_problems(domain, count, numbers=4, seed=12)
    arm = Arm(strategy="self-consistency:n=16", temperature=1.0, parallel=1)
    begun = time.process_time()
    anyio.run(solve_all, model, arm, sample)
    return (time.process_time() - begun) / count


def policy_of(plan: Plan) -> DeepPrune:
    """DeepPrune at its paper's threshold, with all traces of the largest cluster finished."""
    return DeepPrune(n=plan.each, prefix=plan.recipe.cut.tokens, k2=plan.each)


def gate(
    judge: LearnedJudge, fresh: Sequence[Question], plan: Plan, goal: RiskTarget
) -> dict[str, Any]:
    """The threshold from one half of the questions, and the policy on the other half."""
    one, other = split(fresh, 0.5, seed=1)
    policy = replace(policy_of(plan), vote="soft")
    found = calibrate(judge, one, goal, policy=policy, orders=ORDERS)
    return {
        "risk": goal.risk,
        "delta": goal.delta,
        "questions": found.questions,
        "tau": found.tau,
        "why": found.why,
        "tried": [one.model_dump() for one in found.tried[::4]],
        "replay": None if found.tau is None else replay(judge, other, apply(found, {})),
    }


def replay(
    judge: LearnedJudge, questions: Sequence[Question], policy: DeepPrune
) -> list[dict[str, Any]]:
    """A policy with a judge, alone and inside a consensus rule, with and without its cost."""
    rows = []
    for price in (0.0, 1.0):
        evaluator = Evaluator(
            questions=questions, shuffles=SHUFFLES, judge=judge, judge_price=price
        )
        consensus = parse_policy(f"async:k={policy.n} with deepprune")
        policies: list[tuple[str, Policy[Any]]] = [
            ("deepprune", policy),
            *((named(finished), replace(policy, **finished)) for finished in SHORT_OF_ALL),
            ("async with deepprune", replace(consensus, riders=(policy,))),
            ("async", parse_policy(f"async:k={policy.n}")),
        ]
        rows += [compared(name, one, evaluator, price) for name, one in policies]
    return rows


def named(finished: dict[str, int]) -> str:
    return "deepprune:" + ",".join(f"{name}={count}" for name, count in finished.items())


def compared(name: str, policy: Policy[Any], evaluator: Evaluator, price: float) -> dict[str, Any]:
    found = evaluator.compare(policy)
    n_gain, token_gain = found.gains
    return {
        "policy": name,
        "judge_price": price,
        **figures(found.summary),
        "judge_tokens": round(found.summary.judge_tokens, 1),
        "n_matched": {**figures(found.n_matched), **gained(n_gain)},
        "token_matched": {**figures(found.token_matched), **gained(token_gain)},
    }


def figures(summary: Summary) -> dict[str, Any]:
    return {
        "traces": round(summary.traces, 1),
        "accuracy": round(summary.accuracy, 4),
        "ci95": [round(value, 4) for value in summary.ci95],
        "tokens": round(summary.tokens, 1),
        "span": round(summary.span, 1),
    }


def gained(gain: Gain) -> dict[str, Any]:
    return {"gain": round(gain.mean, 4), "gain_ci95": [round(value, 4) for value in gain.ci95]}


def main(arithmetic: Path, countdown: Path, data: Path, only: Sequence[int]) -> None:
    torch.set_num_threads(1)
    sources = {ARITHMETIC: arithmetic, COUNTDOWN: countdown, MATH: data / CHAINS}
    done = json.loads(RESULTS.read_text())["results"] if only and RESULTS.exists() else []
    rows = {(row["source"], row["judge"]): row for row in done}
    for index, plan in enumerate(PLANS):
        if only and index not in only:
            continue
        costs = {row["source"]: row["run_s"] for row in rows.values() if "run_s" in row}
        row = measure(plan, read_traces([str(sources[plan.source])]), costs.get(plan.source))
        rows[row["source"], row["judge"]] = row
        results = {
            "schema": "reason.benchmarks.judge/1",
            "shuffles": SHUFFLES,
            "results": list(rows.values()),
        }
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
        first = row["rankings"][0]
        print(row["source"], row["judge"], first["within"], first["within_ci95"], flush=True)
    print(f"wrote {RESULTS}")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit("give two files of traces of ours, and the folder of the data")
    own, other, chains = (Path(name) for name in sys.argv[1:4])
    main(own, other, chains, [int(index) for index in sys.argv[4:]])
