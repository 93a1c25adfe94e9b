"""Our own files: traces or chains of questions, and what ``reason solve --json`` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pydantic import ValidationError

from orchestrator.errors import InvalidValue
from orchestrator.journal.codec import why
from protocol import Report, ThreadReport
from protocol.wire.report import TraceReport
from pruning import Question, Trace, TracesError, parse_question
from reasoning.evaluation.arms import GradedEval
from reasoning.evaluation.kept.records import SCHEMA
from reasoning.evaluation.kept.store import StoredEval
from reasoning.evaluation.questions.content import JsonValue, StoredFile
from reasoning.problems import FreeForm, Problem, pose, recognise


def is_own(file: StoredFile) -> bool:
    """Whether the first value has traces or chains."""
    return bool({"traces", "chains"} & file.first.keys())


def is_solve(file: StoredFile) -> bool:
    """Whether the first value is a result of ``reason solve``."""
    return str(file.first.get("schema")).startswith("reason.solve/")


def is_eval(file: StoredFile) -> bool:
    """Whether the first value is the header of an evaluation's file."""
    return file.first.get("schema") == SCHEMA


def read_eval(file: StoredFile) -> Iterator[Question]:
    """The samples of an evaluation, graded by what its questions say."""
    try:
        stored = StoredEval.parse(file.data, "samples")
    except InvalidValue as error:
        raise TracesError(str(error)) from error
    yield from GradedEval(stored, list(stored.questions.values())).pool()


def read_own(file: StoredFile) -> Iterator[Question]:
    """Questions with ``traces`` or ``chains``.

    Raises:
        TracesError: with the place and the field that is wrong.
    """
    for one in file.values:
        try:
            yield parse_question(one.value)
        except TracesError as error:
            raise TracesError(f"{one.place}: {error}") from error


def read_solves(file: StoredFile) -> Iterator[Question]:
    """Runs of ``reason solve --json``.

    Raises:
        TracesError: with the run and the field that is wrong, or why it can't be replayed.
    """
    reports = [_report(one, number) for number, one in enumerate(file.values, 1)]
    for number, report in enumerate(reports, 1):
        yield _question(report, file.stem if len(reports) == 1 else f"{file.stem}-{number}")


def _report(one: JsonValue, number: int) -> Report:
    try:
        return Report.model_validate_json(json.dumps(one.value))
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
