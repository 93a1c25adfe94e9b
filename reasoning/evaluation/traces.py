"""Traces in files: written from solutions, and read from such files or from stored runs."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import InvalidValue
from orchestrator.journal.codec import why
from protocol import Report, ThreadReport
from protocol.wire.report import TraceReport
from pruning import Question, Trace, TracesError, read_questions
from reasoning.problems import FreeForm, Problem, pose, recognise
from reasoning.problems.equality import canonical
from reasoning.problems.equality.algebra import Equivalence
from reasoning.run.solution import Solution, ThreadRecord

MOST_BYTES = 1 << 30  # of one file, unpacked; a longer one is refused by its length
GZIP = b"\x1f\x8b"


def read_traces(paths: Sequence[str]) -> list[Question]:
    """The questions of all files, in order.

    Raises:
        InvalidValue: a file that can't be read or holds no usable traces, or a question twice.
    """
    questions: dict[str, Question] = {}
    for path in paths:
        try:
            for question in _questions_of(path):
                if question.id in questions:
                    raise TracesError(f"question {question.id!r} is there twice; give it once")
                questions[question.id] = question
        except TracesError as error:
            raise InvalidValue(f"{path}: {error}") from error
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or "damaged"
            raise InvalidValue(f"{path}: {reason}; give a file of traces") from error
        except UnicodeDecodeError as error:
            raise InvalidValue(f"{path}: not UTF-8; give JSON lines, plain or gzipped") from error
    if not questions:
        raise InvalidValue(f"{', '.join(paths)}: no question; give JSON lines with traces")
    return list(questions.values())


def _questions_of(path: str) -> Iterator[Question]:
    with open(path, "rb") as raw:  # once: a pipe can't be read twice
        packed = raw.peek(2)[:2] == GZIP
        text = (gzip.GzipFile(fileobj=raw) if packed else raw).read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise TracesError(f"longer than {MOST_BYTES} bytes; split it")
    decoded = text.decode()
    if '"reason.solve/' in decoded[:200]:
        yield from _runs(decoded, Path(path).stem)
    else:
        # A string may hold other line breaks.
        yield from map(_with_keys, read_questions(StringIO(decoded)))


def _with_keys(question: Question) -> Question:
    """A stored question with the keys of its answers, so that equal ones are equal strings.

    Where algebra equates a given answer with a right one, it has the right one's key.
    """
    answers = [answer for one in question.traces for answer in (one.answer, *one.probes) if answer]
    words = question.words
    keys = {one: canonical(one, words) or one for one in (*sorted(question.right), *answers)}
    equivalence = Equivalence(words)
    equivalence.compare(keys.values())

    def name(answer: str | None) -> str | None:
        return equivalence.known(keys[answer]) if answer else None

    traces = (
        replace(trace, answer=name(trace.answer), probes=tuple(map(name, trace.probes)))
        for trace in question.traces
    )
    right = frozenset(equivalence.known(keys[one]) for one in question.right)
    return replace(question, right=right, traces=tuple(traces))


def _runs(text: str, name: str) -> Iterator[Question]:
    """Runs of `reason solve --json`, one after the other, however their lines are broken."""
    reports = [_report(one, n) for n, one in enumerate(_objects(text), 1)]
    for number, report in enumerate(reports, 1):
        yield _question(report, name if len(reports) == 1 else f"{name}-{number}")


def _objects(text: str) -> Iterator[object]:
    """JSON values that follow each other in a text."""
    decoder, rest = json.JSONDecoder(), text.strip()
    while rest:
        try:
            value, end = decoder.raw_decode(rest)
        except ValueError as error:
            raise TracesError(f"{error}; give what reason solve --json prints") from error
        yield value
        rest = rest[end:].lstrip()


def _report(value: object, number: int) -> Report:
    try:
        return Report.model_validate_json(json.dumps(value))
    except ValidationError as error:
        wrong = f"run {number}: {why(error)}; give what reason solve --json prints"
        raise TracesError(wrong) from error


def _question(report: Report, id: str) -> Question:
    """A run as a question: its top-level threads are the traces, its verifier says who is right."""
    free, grid = report.domain == FreeForm.domain, _grid(report)
    problem = pose(report.problem, trained=False) if free else recognise(report.problem)
    tops = [thread for thread in report.threads if thread.parent is None and thread.tokens > 0]
    if not tops:
        raise TracesError(f"{id}: no thread with tokens; give a run of self-consistency")
    if any(top.answer is not None and problem.verify(top.answer) is None for top in tops):
        raise TracesError(f"{id}: its problem has no verifier; store it with its gold answer")
    return Question(
        id=id,
        right=frozenset(key for top in tops for key in _right_keys(problem, top)),
        traces=tuple(_trace(problem, top, grid) for top in tops),
        probe_every=grid,
        words=report.problem,
        ordered=any(map(open_ended, tops)),
    )


def _right_keys(problem: Problem, thread: ThreadReport) -> Iterator[str]:
    """The keys of the right answers that a thread gave, or would have given when probed."""
    probed = [key for _, key in thread.trace.probes if key] if thread.trace else []
    given = None if thread.answer is None else problem.canonical(thread.answer)
    for key, answer in [(given, thread.answer), *((key, key) for key in probed)]:
        verdict = None if key is None or answer is None else problem.verify(answer)
        if key is not None and verdict is not None and verdict.ok:
            yield key


def _trace(problem: Problem, thread: ThreadReport, grid: int) -> Trace:
    verdict, steered = problem.verify(thread.answer or ""), thread.trace
    scored = None if steered is None else steered.score
    return Trace(
        # An end that a policy made is not the trace's own: that would come later.
        tokens=thread.tokens + open_ended(thread),
        answer=None if thread.answer is None else problem.canonical(thread.answer),
        probes=_probes(steered, grid) if steered else (),
        confidences=steered.confidences if steered else (),
        score=float(verdict.ok) if scored is None and verdict is not None else scored,
        text=thread.text,
    )


def open_ended(thread: ThreadReport) -> bool:
    """Whether a thread was stopped before its own end."""
    return thread.state == "cancelled" or (
        thread.trace is not None and thread.trace.how != "finished"
    )


def _grid(report: Report) -> int:
    """Where the traces of a run could be asked; 0 if its policy had them observed nowhere."""
    steering = report.steering
    if steering is None:
        return 0
    asked = any(d.probe_every or d.limit for d in steering.decisions if d.do == "launch")
    observed = any(t.trace and (t.trace.probes or t.trace.confidences) for t in report.threads)
    return steering.grid if asked or observed else 0


def _probes(trace: TraceReport, grid: int) -> tuple[str | None, ...]:
    """The answers at every multiple of the grid, up to the last that was asked."""
    asked = dict(trace.probes)
    return tuple(asked.get(tokens) for tokens in range(grid, max(asked, default=0) + 1, grid or 1))


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
