"""Replay one's own traces: write them as JSON lines, and see what each policy would have cost.

For a file, ``reason replay traces.jsonl --policy default --policy sc:n=16`` does the same.
"""

from __future__ import annotations

import json
from random import Random

from pruning import Evaluator, read_questions
from reasoning.policies import parse_policy


def sample(rng: Random, question: int) -> str:
    """A question as stored: its traces' lengths, final answers, and answers when probed."""
    skill = rng.uniform(0.4, 1.0)
    traces = []
    for _ in range(32):
        tokens = round(rng.lognormvariate(8.5 - skill, 0.5))
        answer = "42" if rng.random() < skill else rng.choice(["6", "7", "9"])
        sure = rng.uniform(0.2, 0.9) * tokens  # from here on a probe gives the final answer
        probes = [answer if at > sure else "6" for at in range(500, tokens + 1, 500)]
        traces.append({"tokens": tokens, "answer": answer, "probes": probes})
    stored = {"question_id": f"q{question}", "gold": "42", "probe_every": 500, "traces": traces}
    return json.dumps(stored)


rng = Random(1)
questions = list(read_questions(sample(rng, number) for number in range(40)))
evaluator = Evaluator(questions=questions, shuffles=4)

print(f"{'policy':28} accuracy  95 %           tokens    span   over as many tokens of sc")
for name in ("sc:n=16", "esc:n=16", "async", "default", "parallel-probe:n=16,stable=5"):
    compared = evaluator.compare(parse_policy(name))
    summary, (_, gained) = compared.summary, compared.gains
    low, high = summary.ci95
    print(
        f"{name:28} {summary.accuracy:8.1%}  {low:5.1%}–{high:6.1%} {summary.tokens:8,.0f}"
        f" {summary.span:7,.0f}   {gained.mean:+.1%}"
        f" ({gained.ci95[0]:+.1%} to {gained.ci95[1]:+.1%})"
    )

run = evaluator.replay(parse_policy("default"), questions[0])
print("\nWhat the default decided on the first question, and why:")
for observed, decision in run.log:
    print(f"  after {observed} observations: {type(decision).__name__}: {decision.reason}")
