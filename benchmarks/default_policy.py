"""Choose the default policy on several sets of questions.

    python benchmarks/default_policy.py DATA KEPT

DATA is a folder with ``qwen3-8b-aime24-128.jsonl.gz`` and ``llama8b-qwq32b-math500.jsonl.gz``; in
KEPT, samples of the shipped models are kept, and drawn where they are missing.  Beside these stand
the stored AIME questions made harder, and simulated populations (`populations.py`).

Every candidate is compared with self-consistency with 64 samples, or with as many as there are, and
at equal tokens.  For each set, the best candidate on the *other* sets is measured on it.  Best is
the smallest worst regret: the points lost to the best candidate of a set, among those that spend at
most `BUDGET` of the tokens of 64 samples there.  Where KEPT has the word problems' samples of
`word_problems.py`, whose answers are short, what it costs there is measured that the first sample
goes ahead.  Writes ``results/default-policy.json``.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import anyio
from populations import POPULATIONS, simulated, tilted

from pruning import Evaluator, FixedSamples, Gain, Policy, ProbedConsensus, Question, Summary, gain
from reasoning import Reasoner, Solution, load_model
from reasoning.evaluation import draw_problems, read_traces
from reasoning.policies import parse_policy
from reasoning.run.report import report

RESULTS = Path(__file__).parent / "results" / "default-policy.json"
BUDGET, SAMPLES, SIMULATED = 0.15, 64, 300
SHARES = (0.3, 0.45, 0.6)
DRAWN = {"arithmetic": ("reason-1m", 200, 64)}
"""By domain, the model, the questions and the samples of each."""
AHEAD = ("async:k=8", "async:k=8,ahead=16")
"""What a chat model's samples are steered by without and with the first one ahead."""
FORMER = "default:k=6,threshold=0.8,cap=25000"
OTHERS = (
    "adaptive:n=10,threshold=0.9",
    "adaptive:n=12,threshold=0.9",
    "adaptive:n=10",
    "esc:w=4,n=8",
    "esc:w=4,n=12",
    "esc:w=5,n=10",
)
STOP = (0.8, 0.9, 0.95)
ROUNDS = ((4, 10), (6, 10), (6, 12), (8, 10), (8, 12))


def candidates() -> Iterator[Policy[Any]]:
    """Consensus in one round and in two, with and without a cap, and policies of others."""
    for k, threshold in product((6, 8, 9, 10), STOP):
        yield ProbedConsensus(k=k, threshold=threshold)
    for k in (6, 8):
        yield ProbedConsensus(k=k, threshold=0.9, cap=25_000)
    for (k, n), threshold in product(ROUNDS, STOP):
        yield ProbedConsensus(k=k, n=n, patience=k, threshold=threshold)
    yield from map(parse_policy, (FORMER, *OTHERS))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A candidate on one set.

    Attributes:
        share: Its tokens, of those of 64 samples.
        over: The gain over 64 samples, or over as many as there are.
        equal: The gain over self-consistency with as many tokens.
    """

    summary: Summary
    share: float
    span: float
    over: Gain
    equal: Gain

    def row(self) -> dict[str, Any]:
        return {
            "accuracy": round(self.summary.accuracy, 4),
            "tokens_share": round(self.share, 4),
            "span_share": round(self.span, 4),
            "over": points(self.over),
            "equal_tokens": points(self.equal),
        }


def points(gained: Gain) -> list[float]:
    """The mean and the interval."""
    return [round(value, 4) for value in (gained.mean, *gained.ci95)]


class Chosen(Evaluator):
    """One set: its questions, and what self-consistency does there."""

    def measure(self, policy: Policy[Any]) -> Measured:
        most = min(SAMPLES, self.curve.most)
        base = self.baseline(most)
        compared = self.compare(policy)
        summary = compared.summary
        return Measured(
            summary=summary,
            share=summary.tokens / (base.tokens * SAMPLES / most),
            span=summary.span / base.span,
            over=gain(summary, base),
            equal=compared.gains[1],
        )


def sets(data: Path, kept: Path) -> Iterator[tuple[str, list[Question], int]]:
    """Every set by name, with the number of orders."""
    aime = read_traces([str(data / "qwen3-8b-aime24-128.jsonl.gz")])
    yield "aime24", aime, 8
    yield "math500", read_traces([str(data / "llama8b-qwq32b-math500.jsonl.gz")]), 8
    for domain, (name, count, samples) in DRAWN.items():
        yield domain, drawn(kept, domain, name, count, samples), 2
    yield "aime24-tilted", tilted(aime, SHARES), 4
    for name in POPULATIONS:
        yield name, simulated(name, SIMULATED), 2


def drawn(kept: Path, domain: str, name: str, count: int, samples: int) -> list[Question]:
    """Samples of a shipped model, from the file that keeps them where there is one."""
    path = kept / f"{name}-{domain}.jsonl.gz"
    if not path.exists():
        kept.mkdir(parents=True, exist_ok=True)
        lines = anyio.run(sample, domain, name, count, samples)
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return read_traces([str(path)])


async def sample(domain: str, name: str, count: int, samples: int) -> list[str]:
    lines = []
    async with Reasoner(load_model(name)) as reasoner:
        for seed, problem in enumerate(draw_problems(domain, count, numbers=4, seed=1)):
            solution: Solution = await reasoner.solve(
                problem, policy=FixedSamples(n=samples), temperature=0.7, seed=seed
            )
            lines.append(report(solution).model_dump_json(by_alias=True))
    return lines


Table = Mapping[str, Mapping[str, Measured]]
"""By set and by the label of the policy."""


def regret(table: Table, name: str, label: str) -> float:
    """Points of accuracy lost to the best candidate within the budget."""
    rows = table[name]
    best = max(row.summary.accuracy for row in rows.values() if row.share <= BUDGET)
    return best - rows[label].summary.accuracy


def choose(table: Table, names: Iterable[str]) -> str:
    """The candidate with the smallest worst regret on these sets, within the budget on each."""
    names = list(names)
    fits = [
        label
        for label in table[names[0]]
        if all(table[name][label].share <= BUDGET for name in names)
    ]

    def worst(label: str) -> tuple[float, float]:
        regrets = [regret(table, name, label) for name in names]
        return round(max(regrets), 4), sum(regrets)

    return min(fits, key=worst)


def left_out(table: Table) -> Iterator[dict[str, Any]]:
    """What is chosen without a set, measured on it."""
    for name in table:
        label = choose(table, [other for other in table if other != name])
        row = table[name][label].row()
        print(name, label, row, flush=True)
        yield {"set": name, "chosen": label, **row, "regret": round(regret(table, name, label), 4)}


def curve(evaluator: Evaluator) -> dict[str, float]:
    """Self-consistency with some numbers of samples: how much they matter on this set."""
    counts = [n for n in (1, 4, 8, 16, 32, 64) if n <= evaluator.curve.most]
    return {str(n): round(evaluator.baseline(n).accuracy, 4) for n in counts}


def ahead(kept: Path) -> dict[str, Any] | None:
    """What it costs that the first sample goes ahead, on short answers."""
    files = sorted(map(str, kept.glob("samples-*.jsonl")))
    if not files:
        return None
    evaluator = Evaluator(questions=read_traces(files), shuffles=16)
    together, first = (evaluator.evaluate(parse_policy(text)) for text in AHEAD)
    return {
        "policies": AHEAD,
        "questions": first.n,
        "accuracy": [round(one.accuracy, 4) for one in (together, first)],
        "tokens": [round(one.tokens) for one in (together, first)],
        "gain": points(gain(first, together)),
    }


def main(data: Path, kept: Path) -> None:
    policies: Sequence[Policy[Any]] = list(candidates())
    table: dict[str, dict[str, Measured]] = {}
    described = []
    for name, questions, orders in sets(data, kept):
        evaluator = Chosen(questions=questions, shuffles=orders)
        table[name] = {policy.label: evaluator.measure(policy) for policy in policies}
        described.append({"set": name, "questions": len(questions), "sc": curve(evaluator)})
        print(described[-1], flush=True)
    best = choose(table, table)
    results = {
        "schema": "reason.benchmarks.default-policy/1",
        "budget": BUDGET,
        "candidates": len(policies),
        "sets": described,
        "left_out": [*left_out(table)],
        "chosen": best,
        "ahead": ahead(kept),
        "results": [
            {"set": name, "policy": label, **rows[label].row()}
            for label in dict.fromkeys(policy.label for policy in policies)
            for name, rows in table.items()
        ],
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(f"chosen: {best}; wrote {RESULTS}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("give two folders: python benchmarks/default_policy.py DATA KEPT")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
