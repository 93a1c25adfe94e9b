"""Runs to keep, made up."""

from __future__ import annotations

from typing import Any

from protocol import Report
from reasoning.runs.record import BranchRecord, RecordedRun


def thread(id: str, **fields: Any) -> dict[str, Any]:
    """A thread of a report."""
    parent = id.rpartition(".")[0] or None
    return {
        "id": id,
        "parent": parent,
        "name": f"branch {id}",
        "state": "succeeded",
        "tokens": 10,
        "text": f"I am {id}. The answer is 7.",
        "answer": "7",
        "logprob": -0.5,
        **fields,
    }


def kept(threads: list[dict[str, Any]], *, id: str = "0badcafe", **fields: Any) -> RecordedRun:
    """A run of these threads; ``why``, ``vote``, ``stretches`` of a thread go to its record."""
    own = ("why", "vote", "stretches", "number")
    branches = tuple(
        BranchRecord(
            id=one["id"],
            why=one.get("why", "ended by itself"),
            vote=one.get("vote", one["answer"]),
            stretches=one.get("stretches", ((0, one["tokens"]),)),
            number=one.get("number"),
        )
        for one in threads
    )
    report = {
        "status": "finished",
        "problem": "What is 3 + 4?",
        "answer": "7",
        "verified": True,
        "reason": None,
        "votes": {"7": len(threads)},
        "confidence": 1.0,
        "strategy": "self-consistency",
        "model": "made-up",
        "usage": dict.fromkeys(
            ("prompt_tokens", "completion_tokens", "work_tokens", "span_tokens"), 10
        ),
        "wall_s": 1.5,
        "threads": [{name: one[name] for name in one if name not in own} for one in threads],
    }
    known = {name: fields.pop(name) for name in fields.keys() & RecordedRun.model_fields.keys()}
    return RecordedRun(
        id=id,
        versions={"python": "3"},
        report=Report.model_validate({**report, **fields}),
        branches=branches,
        **{"command": "solve", "began": 1e9, "settings": {}, **known},
    )
