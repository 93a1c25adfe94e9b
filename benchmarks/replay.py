"""Measure the policies over stored traces: ``python benchmarks/replay.py DATA``.

DATA is a folder with ``qwen3-8b-aime24-128.jsonl.gz`` (sampled traces with probes) and
``llama8b-qwq32b-math500.jsonl.gz`` (scored chains).  Writes ``results/replay.json``:

- every policy on the sampled traces, beside the reference's figures for those it lists
  (`default_policy.py` compares it with others on more sets);
- the share of steps that the conformal controller escalates, in each turn;
- how well one rate, and a rate per question, describe coverage;
- the time of 64 traces times 1,000 observations through each policy.
"""

from __future__ import annotations

import gzip
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

from chains import coverage, rates

from pruning import (
    POLICIES,
    Began,
    ConformalController,
    Evaluator,
    Generated,
    Observation,
    Policy,
    Probed,
    Question,
    StepScored,
    Summary,
    Trace,
    read_questions,
)
from reasoning.policies import parse_policy

RESULTS = Path(__file__).parent / "results" / "replay.json"
SAMPLED = "qwen3-8b-aime24-128.jsonl.gz"
CHAINS = "llama8b-qwq32b-math500.jsonl.gz"
SHUFFLES = 16

REFERENCE: dict[str, tuple[float, float, float]] = {
    # accuracy %, k tokens, k span; the digest of published and re-measured figures
    "sc:n=64": (80.2, 910, 29.9),
    "sc:n=16": (80.8, 227, 24.6),
    "sc:n=8": (81.2, 114, 22.0),
    "sc:n=4": (80.2, 57, 19.1),
    "adaptive": (80.2, 220, 220),
    "esc": (80.2, 447, 82),
    "parallel-probe": (80.8, 730, 20.2),
    "cap": (80.4, 793, 18.0),
    "async": (82.1, 180, 12.7),
    "async:threshold=0.9,cap=20000": (84.6, 162, 10.3),
    "async:k=12,threshold=0.9,cap=20000": (84.0, 125, 10.7),
    "async:k=8,threshold=0.9,cap=20000": (83.3, 88, 11.5),
    "async:k=6,threshold=0.9": (81.7, 74, 14.4),
}
OTHERS = ("default", "convergence", "saturation")


def read(path: Path) -> list[Question]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return list(read_questions(file))


def figures(summary: Summary) -> dict[str, Any]:
    return {
        "accuracy": round(summary.accuracy, 4),
        "ci95": [round(value, 4) for value in summary.ci95],
        "tokens": round(summary.tokens),
        "span": round(summary.span),
        "traces": round(summary.traces, 1),
    }


def table(evaluator: Evaluator) -> Iterator[dict[str, Any]]:
    """Each policy beside the reference and beside self-consistency at equal tokens."""
    for name in (*REFERENCE, *OTHERS):
        compared = evaluator.compare(parse_policy(name))
        gained = compared.gains[1]
        row = {"policy": name, "n": len(evaluator.questions), **figures(compared.summary)}
        row["token_matched"] = {
            "policy": compared.token_matched.policy,
            **figures(compared.token_matched),
            "gain": round(gained.mean, 4),
            "gain_ci95": [round(value, 4) for value in gained.ci95],
        }
        if name in REFERENCE:
            accuracy, tokens, span = REFERENCE[name]
            row["reference"] = {
                "accuracy": accuracy / 100,
                "tokens": tokens * 1000,
                "span": span * 1000,
                "tokens_off": round(compared.summary.tokens / tokens / 1000 - 1, 4),
                "span_off": round(compared.summary.span / span / 1000 - 1, 4),
            }
        print(row["policy"], row["accuracy"], row["tokens"], row["span"], flush=True)
        yield row


ORACLES = ("deepprune:k=64,k2=10", "deepprune:n=64,k2=1", "deepprune:n=32,k2=1")
"""The paper's way, and the best of a search over n, k, k1, k2 and k3: one trace of the largest
cluster is finished, as all in it agree."""


def oracles(evaluator: Evaluator) -> list[dict[str, Any]]:
    """DeepPrune with a judge that knows the final answers: what no judge can beat."""

    def judge(trace: Trace, other: Trace, tokens: int) -> float:
        return float(trace.answer is not None and trace.answer == other.answer)

    knowing = replace(evaluator, judge=judge)
    return [
        {"policy": f"{name} (oracle judge)", **figures(knowing.evaluate(parse_policy(name)))}
        for name in ORACLES
    ]


# Speed.

BUSY = {
    "default": "default:k=64",
    "convergence": "convergence:n=64,streak=99",
    "parallel-probe": "parallel-probe:stable=9999,patience=9999",
}


def speed() -> dict[str, float]:
    """Milliseconds for 64 traces times 1,000 observations."""
    rng = Random(0)
    grid = [(trace, 500 * (turn + 1)) for turn in range(1000) for trace in range(64)]
    probes: list[Observation] = [
        Probed(trace=trace, tokens=tokens, answer=rng.choice("aaaabcd")) for trace, tokens in grid
    ]
    confidences: list[Observation] = [
        Generated(trace=trace, tokens=tokens, confidence=10 + rng.random())
        for trace, tokens in grid
    ]
    scores: list[Observation] = [
        StepScored(trace=trace, turn=tokens // 500 % 15, score=1 + rng.expovariate(1))
        for trace, tokens in grid
    ]
    policies = [parse_policy(BUSY.get(name, name)) for name in POLICIES]
    took = {
        policy.name: timed(policy, confidences if "confidence" in policy.needs else probes)
        for policy in policies
    }
    return took | {"conformal (a decision each)": timed(ConformalController(), scores)}


def timed(policy: Policy[Any], observations: Sequence[Observation]) -> float:
    """The best of ten for each hundred observations, so that what else runs counts less."""
    chunks = [observations[at : at + 100] for at in range(0, len(observations), 100)]
    best = [math.inf] * len(chunks)
    for _ in range(10):
        state = policy.begin(Random(0))
        policy.observe(state, Began(max_traces=64, probe_every=500))
        for index, chunk in enumerate(chunks):
            started = time.perf_counter()
            for observation in chunk:
                policy.observe(state, observation)
            best[index] = min(best[index], time.perf_counter() - started)
    return round(sum(best) * 1000, 1)


CONTROLLERS = (("bank", 0.0), ("aci", 0.01), ("aci", 0.03), ("aci", 0.15), ("quantile", 0.15))


def main(folder: Path) -> None:
    sampled, chains = read(folder / SAMPLED), read(folder / CHAINS)
    evaluator = Evaluator(questions=sampled, shuffles=SHUFFLES)
    results = {
        "schema": "reason.benchmarks.replay/1",
        "shuffles": SHUFFLES,
        "results": [*table(evaluator), *oracles(evaluator)],
        "rate_control": [
            rates(chains, method, shift, gamma)
            for (method, gamma), shift in product(CONTROLLERS, (1.0, 1.5))
        ],
        "coverage": coverage(sampled),
        "speed_ms": speed(),
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(f"wrote {RESULTS}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("give the folder of the data: python benchmarks/replay.py DATA")
    main(Path(sys.argv[1]))
