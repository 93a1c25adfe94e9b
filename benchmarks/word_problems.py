"""Self-consistency with a policy beside one sample, at equal tokens, on arithmetic word problems.

    python benchmarks/word_problems.py MODEL KEPT [--questions 200]

MODEL is a chat model's folder.  It is asked for the number alone, and the last number that it
writes is its answer; a model of 135 million parameters that is asked for its steps and a box gets
almost nothing right.  Its greedy answer and eight samples to every question are kept in
the folder KEPT, some questions at a time, and the next call goes on from there.  Policies are then
replayed over the samples.  Single answers can't be made to cost as much as eight, so the arms at
equal tokens are the vote of so many samples, to the nearest whole one, without a policy, and one
greedy answer with the tokens that it takes.  Writes ``results/word-problems.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio

from pruning import Evaluator, FixedSamples, Question, Summary
from pruning.evaluation.statistics import Gain, gain
from reasoning import load_model
from reasoning.evaluation import Arm, draw_word_problems, read_traces, solve_all, write_traces
from reasoning.models.loaded import LoadedModel
from reasoning.policies import parse_policy
from reasoning.problems import FreeForm
from reasoning.problems.answers import AnswerFormat

RESULTS = Path(__file__).parent / "results" / "word-problems.json"
SAMPLES, CONTEXT, AT_ONCE, SHUFFLES = 8, 160, 25, 64
ASKING, ANSWER = "\nAnswer with the number alone.", "/\\d+/"
POLICIES = ("async:k=8", "esc:w=4,n=8", "sc:n=8")
ARMS = {
    "greedy": Arm(strategy="single", max_tokens=CONTEXT, parallel=AT_ONCE),
    "samples": Arm(strategy=f"self-consistency:n={SAMPLES}", max_tokens=CONTEXT, parallel=AT_ONCE),
}


def generate(model: LoadedModel, kept: Path, count: int) -> None:
    """Keep the traces of all questions that are not kept yet."""
    form = AnswerFormat.parse(ANSWER)
    problems = [
        FreeForm(question=problem.question + ASKING, answer_format=form, checker=problem)
        for problem in draw_word_problems(count)
    ]
    for first in range(0, count, AT_ONCE):
        for name, arm in ARMS.items():
            target = kept / f"{name}-{first:03}.jsonl"
            if target.exists():
                continue
            solutions = anyio.run(solve_all, model, arm, problems[first : first + AT_ONCE])
            write_traces(target, solutions)
            right = sum(solution.verified is True for solution in solutions)
            print(f"{target.name}: {right} of {len(solutions)} right", flush=True)


def kept_questions(kept: Path, name: str, ids: set[str] | None = None) -> list[Question]:
    found = read_traces([str(path) for path in sorted(kept.glob(f"{name}-*.jsonl"))])
    return [question for question in found if ids is None or question.id in ids]


def row(summary: Summary, label: str = "") -> dict[str, Any]:
    return {
        "arm": label or summary.policy,
        "accuracy": round(summary.accuracy, 4),
        "ci95": [round(end, 4) for end in summary.ci95],
        "tokens": round(summary.tokens, 1),
        "span": round(summary.span, 1),
    }


def difference(of: str, over: str, gained: Gain) -> dict[str, Any]:
    ends = [round(end, 4) for end in gained.ci95]
    return {"of": of, "over": over, "gain": round(gained.mean, 4), "ci95": ends}


def evaluate(samples: Sequence[Question], greedy: Sequence[Question]) -> dict[str, Any]:
    """The rows of every arm, and each policy's gains, paired by question."""
    evaluator = Evaluator(questions=samples, shuffles=SHUFFLES)
    alone = Evaluator(questions=greedy, shuffles=1).evaluate(FixedSamples(n=1))
    sampled = evaluator.baseline(1)
    rows = [row(alone, "single, greedy"), row(sampled, "single, sampled")]
    gains = []
    for name in POLICIES:
        compared = evaluator.compare(parse_policy(name))
        rows.append(row(compared.summary, name))
        matched = compared.token_matched
        if matched.policy != name:
            equal = f"{matched.policy} at equal tokens"
            gains.append(difference(name, equal, compared.gains[1]))
        gains += [
            difference(name, "single, sampled", gain(compared.summary, sampled)),
            difference(name, "single, greedy", gain(compared.summary, alone)),
        ]
    return {"results": rows, "gains": gains}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("model")
    parser.add_argument("kept", type=Path)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--name", help="the model's; by default its folder's")
    options = parser.parse_args()
    options.kept.mkdir(parents=True, exist_ok=True)
    generate(load_model(options.model), options.kept, options.questions)
    samples = kept_questions(options.kept, "samples")
    greedy = kept_questions(options.kept, "greedy", {question.id for question in samples})
    results = {
        "schema": "reason.benchmarks.word-problems/1",
        "model": options.name or Path(options.model).name,
        "questions": len(samples),
        "samples": SAMPLES,
        "context": CONTEXT,
        "temperature": 0.7,
        "asking": ASKING.strip(),
        "answer": ANSWER,
        **evaluate(samples, greedy),
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
