"""What a planner writes: edits of the graph, as JSON that is checked, and in the end the answer."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from orchestrator.editing.operations import Connect, Disconnect, Model, NewId, Remove, TaskId
from orchestrator.errors import InvalidValue
from orchestrator.journal.codec import why
from orchestrator.scheduler.conditions import Condition

MOST_EDITS = 100
Word = Annotated[str, Field(min_length=1, max_length=400)]


class _Wait(Model):
    task: TaskId
    when: str = "success"


def _mapping(after: Any) -> Any:
    """A list of waits as a mapping; whatever else is left for the check."""
    if not isinstance(after, list):
        return after
    return {wait.task: wait.when for wait in map(_Wait.model_validate, after)}


class AddTask(Model):
    """A new task.  ``{"$task": ID}`` among the arguments is another task's result."""

    op: Literal["add"] = "add"
    id: NewId
    tool: Word
    arguments: dict[str, Any] = Field(default_factory=dict)
    after: Annotated[dict[TaskId, Condition], BeforeValidator(_mapping)] = Field(
        default_factory=dict
    )
    """As a mapping, or as a list of ``{"task": ID, "when": CONDITION}``."""
    device: Word | None = None
    """Runs on this device only; by default on any that has the tool."""
    tags: tuple[Word, ...] = ()
    """Runs on a device that has all of these."""


class ChangeTask(Model):
    """What a task that has not started will do; what is left out stays."""

    op: Literal["change"] = "change"
    id: TaskId
    tool: Word | None = None
    arguments: dict[str, Any] | None = None
    device: Word | None = None
    tags: tuple[Word, ...] | None = None


Edit = Annotated[AddTask | ChangeTask | Remove | Connect | Disconnect, Field(discriminator="op")]


class PlannerReply(Model):
    """One reply of a planner: edits that are applied together or not at all, or the answer."""

    thought: Annotated[str, Field(max_length=10_000)] = ""
    edits: Annotated[tuple[Edit, ...], Field(max_length=MOST_EDITS)] = ()
    answer: str | None = None

    @classmethod
    def parse(cls, text: str) -> PlannerReply:
        """The plan in a model's reply, which may think first and fence its JSON.

        Raises:
            InvalidValue: there is none; the message names the field.
        """
        try:
            return cls.model_validate_json(json.dumps(json_object(text)))
        except ValidationError as error:
            raise InvalidValue(f"the plan can't be used: {why(error)}; mend that field") from error


def json_object(text: str) -> dict[str, Any]:
    """The first JSON object in a reply, after its thoughts.

    Raises:
        InvalidValue: there is none.
    """
    said = text.rpartition("</think>")[2]
    start = said.find("{")
    if start < 0:
        raise InvalidValue("the reply holds no JSON object; write one, and nothing else")
    try:
        found, _ = json.JSONDecoder(strict=False).raw_decode(said, start)  # grammars let tabs in
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidValue(f"the reply is no JSON ({error}); write one object only") from error
    assert isinstance(found, dict)
    return found
