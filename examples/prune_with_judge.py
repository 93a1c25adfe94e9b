"""DeepPrune on traces of your own: train a judge, check it within questions, gate it, replay it.

    python examples/prune_with_judge.py                  # on a few traces that are sampled first
    python examples/prune_with_judge.py traces.jsonl.gz  # on yours, with their texts

Needs ``pip install '.[judge]'``.  ``reason judge train``, ``reason judge eval`` and
``reason calibrate`` do the same at a terminal.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import anyio

from pruning import Cut, DeepPrune, Evaluator, Question
from pruning.judge.pairs import split, unseen
from reasoning import load_model
from reasoning.evaluation import Arm, draw_problems, read_traces, solve_all, write_traces
from reasoning.judging.calibration import RiskTarget, calibrate
from reasoning.judging.evaluation import EvaluationOptions, evaluate
from reasoning.judging.training import JudgeRecipe, save, train


def traces(folder: Path) -> list[Question]:
    """Yours, or 30 arithmetic problems with 8 traces each of the shipped model."""
    if len(sys.argv) > 1 and sys.argv[1].endswith((".jsonl", ".gz")):
        return read_traces([sys.argv[1]])
    problems = draw_problems("arithmetic", 30, numbers=4, seed=3)
    arm = Arm(strategy="self-consistency:n=8", temperature=1.0, seed=3, max_tokens=256)
    target = folder / "traces.jsonl"
    write_traces(target, anyio.run(solve_all, load_model(), arm, problems))
    return read_traces([str(target)])


def main(folder: Path) -> None:
    questions = traces(folder)
    prefix = round(sum(t.tokens for q in questions for t in q.traces) / 16 / len(questions))
    recipe = JudgeRecipe(encoder="scratch", cut=Cut(tokens=prefix), max_length=120, epochs=3)
    judge = save(train(questions, recipe), folder / "judge")

    found = evaluate(judge, questions, EvaluationOptions(each=8))
    for one in found.rankings:
        low, high = one.within_ci95
        print(
            f"{one.name}: AUROC {one.within:.2f} within questions ({low:.2f} to {high:.2f}), "
            f"{one.pooled:.2f} pooled"
        )

    fitted, tested = split(unseen(questions, judge.card.seen), 0.4)
    policy = DeepPrune(n=8, prefix=prefix, vote="soft", k2=3)
    calibration = calibrate(judge, fitted, RiskTarget(risk=0.3, delta=0.2), policy=policy)
    print(f"gate: tau = {calibration.tau}" if calibration.tau else f"gate: {calibration.why}")

    evaluator = Evaluator(questions=tested, judge=judge, shuffles=4)
    compared = evaluator.compare(replace(calibration.gated, k2=3))
    for name, summary in (
        ("pruned", compared.summary),
        ("as many traces", compared.n_matched),
        ("as many tokens", compared.token_matched),
    ):
        print(
            f"{name}: {summary.accuracy:.0%} right, {summary.tokens:.0f} tokens a question "
            f"(of them the judge's {summary.judge_tokens:.0f})"
        )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as workspace:
        main(Path(workspace))
