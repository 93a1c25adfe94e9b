"""A planner's prompt: everything, in each turn anew, so that the graph alone is its memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pydantic_core

from orchestrator import Task, TaskGraph
from reasoning.planning.devices import DevicePool, PlannedCall

MOST_RESULT = 1200
"""Characters of a result that the planner is shown; other tasks get all of it."""

RULES = """\
You plan for several devices.  You turn a request into tasks that call the devices' tools, watch \
their results, change the plan where it needs it, and give the answer in the end.

Reply with one JSON object and nothing else:
{"thought": "why, in a sentence", "edits": [...], "answer": null}

"edits" are applied together or not at all.  Each is one of
{"op": "add", "id": "t1", "tool": "NAME", "arguments": {...}, \
"after": [{"task": "t0", "when": "success"}], "device": null, "tags": []}
{"op": "change", "id": "t1", "tool": "NAME", "arguments": {...}, "device": "NAME", "tags": []}
{"op": "remove", "id": "t1"}
{"op": "connect", "source": "t0", "target": "t1", "when": "success"}
{"op": "disconnect", "source": "t0", "target": "t1"}

- {"$task": "t0"} in place of an argument, or of an item of a list, is the result of t0, \
for which t1 then waits.
- "after" waits without taking a result; conditions are "success", "completion", "always", or an \
expression such as "result.score > 0.5".
- A device is chosen for each task by itself; name one, or tags, only where it matters.
- Tasks that don't wait for each other run at the same time: make use of it.
- Only what has not started can be changed or removed; ids are never used twice.
- Where nothing has to be changed, leave "edits" empty: you are asked again when a task has ended.
- When the results answer the request, leave "edits" empty and write "answer", a text."""


def ask(
    request: str,
    devices: DevicePool,
    graph: TaskGraph,
    calls: dict[str, PlannedCall],
    notes: Sequence[str],
) -> str:
    """The prompt of one turn."""
    tasks = "\n".join(_task(task, calls[task.id]) for task in graph.tasks) or "none yet"
    parts = [RULES, f"The request:\n{request}", f"The devices:\n{_devices(devices)}"]
    parts.append(f"The tasks:\n{tasks}")
    if notes:
        parts.append("Chat:\n" + "\n".join(f"- {note}" for note in notes))
    return "\n\n".join([*parts, "Your reply, as JSON:"])


def _devices(devices: DevicePool) -> str:
    lines: list[str] = []
    shown: set[str] = set()
    for id, profile in devices.profiles.items():
        about = [profile.platform or "unknown", *sorted(profile.tags)]
        about += [f"{amount} {name}" for name, amount in profile.resources.items()]
        lines.append(f"{id} ({', '.join(about)}) has {', '.join(devices.offers(id)) or 'nothing'}")
        for name, (_, offer) in devices.offers(id).items():
            if name not in shown:
                shown.add(name)
                lines.append(f"  {name}{_parameters(offer.parameters)}: {_line(offer.description)}")
    return "\n".join(lines) or "none is connected"


def _parameters(schema: str) -> str:
    """A tool's parameters, as in a signature."""
    found = pydantic_core.from_json(schema)
    properties = found.get("properties", {}) if isinstance(found, dict) else {}
    given = properties.items() if isinstance(properties, dict) else ()
    return f"({', '.join(f'{name}: {_type(value)}' for name, value in given)})"


def _type(schema: Any) -> str:
    if not isinstance(schema, dict):
        return "any"
    inner = schema.get("items")
    return f"array of {_type(inner)}" if inner else str(schema.get("type", "any"))


def _task(task: Task[Any], call: PlannedCall) -> str:
    arguments = json.dumps(dict(call.arguments))
    line = f"{task.id}: {call.name} {cut(arguments)} is {task.state}"
    if task.state == "succeeded":
        return f"{line} with {cut(pydantic_core.to_json(task.value).decode())}"
    if task.state == "failed":
        return f"{line}: {_line(task.error_text or '')}"
    return line


def cut(text: str) -> str:
    """The beginning of a text that is too long to show."""
    if len(text) <= MOST_RESULT:
        return text
    return f"{text[:MOST_RESULT]}… ({len(text)} characters)"


def _line(text: str) -> str:
    return cut(" ".join(text.split()))
