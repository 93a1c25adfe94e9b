"""Traces written from solutions, as `importers` read them."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from orchestrator.errors import InvalidValue
from reasoning.run.solution import Solution, ThreadRecord


def write_traces(target: Path, solutions: Iterable[Solution]) -> None:
    """Write a line for each solution, gzipped where the name ends in ``.gz``; all or nothing.

    Raises:
        InvalidValue: the file can't be written.
    """
    lines = (json.dumps(_stored(solution), ensure_ascii=False) for solution in solutions)
    text = "".join(f"{line}\n" for line in lines).encode()
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


def _stored(solution: Solution) -> dict[str, Any]:
    """A question and its traces, as `pruning.parse_question` reads them."""
    problem, merged = solution.problem, solution.merged
    right: dict[str, None] = {}

    def stored_trace(thread: ThreadRecord) -> dict[str, Any]:
        key = None if thread.answer is None else problem.canonical(thread.answer)
        key = key and merged.get(key, key)
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

    traces = [stored_trace(thread) for thread in solution.threads]
    question = problem.question
    return {"question_id": question, "question": question, "gold": list(right), "traces": traces}
