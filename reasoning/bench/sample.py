"""``reason sample``: traces sampled from a model on problems of ours, stored for replay."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
import click
from rich.console import Console
from rich.progress import Progress

from orchestrator.errors import InvalidValue
from reasoning.bench.bench import MOST_PROBLEMS, Arm, problems, solve_all
from reasoning.models.catalog import Model
from reasoning.problems import Problem
from reasoning.run.solution import Solution, ThreadRecord

STRATEGY = "self-consistency"


def run(
    domain: str,
    *,
    count: int,
    each: int,
    output: str,
    model: str | None,
    temperature: float,
    max_tokens: int,
    seed: int,
    numbers: int,
    parallel: int,
) -> int:
    """Sample, store, and return the exit code."""
    if not 1 <= count <= MOST_PROBLEMS:
        raise InvalidValue(f"n: {count} is out of range; give 1 to {MOST_PROBLEMS} problems")
    target = Path(output)
    if not target.parent.is_dir():
        raise InvalidValue(f"output: {output}: no such folder; make it, or give another")
    loaded = Model.load(model)
    sample = problems(domain, count, numbers=numbers, seed=seed)
    arm = Arm(name=STRATEGY, n=each)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task(f"{domain}, {each} traces each", total=count)
        solutions = anyio.run(
            solve_all,
            loaded,
            arm,
            sample,
            temperature,
            seed,
            max_tokens,
            parallel,
            lambda: progress.advance(bar),
        )
    write(target, (line(*pair) for pair in zip(sample, solutions, strict=True)))
    right = sum(solution.verified is True for solution in solutions)
    click.echo(f"{output}: {count} questions, {each} traces each; {right} majorities right")
    return 0


def line(problem: Problem, solution: Solution) -> dict[str, Any]:
    """A question and its traces, as `pruning.parse_question` reads them."""
    right: dict[str, None] = {}

    def trace(thread: ThreadRecord) -> dict[str, Any]:
        key = None if thread.answer is None else problem.canonical(thread.answer)
        verdict = None if thread.answer is None else problem.verify(thread.answer)
        ok = verdict is not None and verdict.ok
        if ok and key is not None:
            right[key] = None
        return {
            "tokens": max(1, thread.tokens),
            "answer": key,
            "score": float(ok),
            "text": thread.text or " ",
        }

    traces = [trace(thread) for thread in solution.threads]
    return {
        "question_id": problem.question,
        "question": problem.question,
        "gold": list(right),
        "traces": traces,
    }


def write(target: Path, lines: Iterable[dict[str, Any]]) -> None:
    """JSON lines, gzipped where the name ends so; the file is there whole or not at all."""
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines).encode()
    if target.suffix == ".gz":
        text = gzip.compress(text, mtime=0)
    partial = target.with_name(f".{target.name}.part")
    try:
        partial.write_bytes(text)
        os.replace(partial, target)
    except OSError as error:
        raise InvalidValue(f"output: {target}: {error.strerror}; give another file") from error
    finally:
        partial.unlink(missing_ok=True)
