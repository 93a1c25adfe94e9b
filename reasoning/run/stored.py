"""Solutions as JSON that keeps everything, so that a journaled task may return one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import core_schema

import pruning.decisions
from orchestrator.views.diagrams import from_json, to_json
from pruning import Finish, LoggedDecision
from reasoning.problems import FreeForm, Problem, Verdict, pose, recognise
from reasoning.problems.answers import AUTO, AnswerFormat
from reasoning.run.solution import Solution, Steering, ThreadRecord, Usage

_THREADS = TypeAdapter(tuple[ThreadRecord, ...])


def schema() -> core_schema.CoreSchema:
    """For pydantic: a `Solution` is itself in Python, and a dictionary in JSON."""
    return core_schema.no_info_plain_validator_function(
        lambda value: value if isinstance(value, Solution) else restore(value),
        serialization=core_schema.plain_serializer_function_ser_schema(store, when_used="json"),
    )


def store(solution: Solution) -> dict[str, Any]:
    """The solution as values that JSON has."""
    plain = {
        field.name: getattr(solution, field.name)
        for field in fields(solution)
        if field.name not in ("problem", "graph", "steering", "usage", "threads", "verdict")
    }
    steering = solution.steering
    return plain | {
        "problem": _stored_problem(solution.problem),
        "verdict": None if solution.verdict is None else asdict(solution.verdict),
        "usage": asdict(solution.usage),
        "threads": [asdict(thread) for thread in solution.threads],
        "graph": json.loads(to_json(solution.graph)),
        "steering": None if steering is None else _steering(steering),
    }


def restore(values: Mapping[str, Any]) -> Solution:
    """The solution that was stored.

    A problem of a domain that does not exist any more comes back as a `FreeForm` one.

    Raises:
        ValueError, KeyError, TypeError: the values are no stored solution.
    """
    steering, verdict = values["steering"], values["verdict"]
    return Solution(
        **{
            **values,
            "problem": _problem(**values["problem"]),
            "verdict": None if verdict is None else Verdict(**verdict),
            "usage": Usage(**values["usage"]),
            "threads": _THREADS.validate_python(values["threads"]),
            "graph": from_json(json.dumps(values["graph"])),
            "steering": None if steering is None else _restored_steering(steering),
            "errors": tuple(values["errors"]),
            "emulated": tuple(values["emulated"]),
        }
    )


def _stored_problem(problem: Problem) -> dict[str, Any]:
    form = problem.answer_format if isinstance(problem, FreeForm) else AUTO
    return {"domain": problem.domain, "question": problem.question, "answer": str(form)}


def _problem(domain: str, question: str, answer: str) -> Problem:
    if domain == FreeForm.domain:
        return pose(question, trained=False, answer_format=AnswerFormat.parse(answer))
    found = recognise(question)
    return found if found.domain == domain else FreeForm(question=question)


def _steering(steering: Steering) -> dict[str, Any]:
    log = [[told, _decision(decision)] for told, decision in steering.log]
    return {**asdict(steering), "finish": _decision(steering.finish), "log": log}


def _restored_steering(values: Mapping[str, Any]) -> Steering:
    finish = _restored_decision(values["finish"])
    assert isinstance(finish, Finish)
    log = tuple(LoggedDecision(told, _restored_decision(one)) for told, one in values["log"])
    return Steering(**{**values, "finish": finish, "log": log})


def _decision(decision: Any) -> dict[str, Any]:
    values = {name: getattr(decision, name) for name in type(decision).__annotations__}
    return {**values, "kind": type(decision).__name__}


def _restored_decision(values: Mapping[str, Any]) -> Any:
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return getattr(pruning.decisions, given.pop("kind"))(**given)
