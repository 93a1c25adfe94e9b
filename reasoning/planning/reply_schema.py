"""The JSON schema of a planner's next reply, for the devices and tasks that there are.

Where a backend enforces it, a reply names true tools, devices, parameters and tasks, and its length
is bounded; what else may be wrong with it is checked as always.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pydantic_core

from orchestrator import TaskGraph
from protocol import Offer
from reasoning.planning.devices import DevicePool

Schema = dict[str, Any]

LARGEST = 10**15
"""Of numbers, which without an end would let a model write digits for ever."""
_COPIED = ("type", "enum", "const", "pattern", "minLength", "minItems", "required")


@dataclass(frozen=True, kw_only=True)
class ReplyBounds:
    """How long a planner's reply may be, where the backend enforces it.

    Attributes:
        edits: At most so many in one reply.
        thought: Characters of it.
        text: Characters of the answer, and of each text that a tool takes.
        items: Of each list that a tool takes.
    """

    edits: int = 20
    thought: int = 500
    text: int = 4000
    items: int = 50


def schema_of(devices: DevicePool, graph: TaskGraph, bounds: ReplyBounds) -> str:
    """The JSON schema, as text, of a planner's next reply."""
    return json.dumps(_Grammar(devices, graph, bounds).plan())


@dataclass
class _Grammar:
    devices: DevicePool
    graph: TaskGraph
    bounds: ReplyBounds
    defs: dict[str, Schema] = field(default_factory=dict)

    def plan(self) -> Schema:
        bounds = self.bounds
        edits = self._edits()
        found = _object(
            {
                "thought": _text(bounds.thought),
                "edits": {
                    "type": "array",
                    "items": {"anyOf": edits} if edits else {"type": "null"},
                    "maxItems": bounds.edits if edits else 0,
                },
                "answer": _either(_text(bounds.text), {"type": "null"}),
            }
        )
        return found | {"$defs": self.defs}

    def _edits(self) -> list[Schema]:
        open_ = [task.id for task in self.graph.tasks if task.state in ("waiting", "ready")]
        every = [task.id for task in self.graph.tasks]
        new = [f"t{n}" for n in range(1, len(every) + 2 * self.bounds.edits)]
        new = [id for id in new if id not in every][: self.bounds.edits]
        self.defs |= {
            "new": _one_of(new),
            "task": _one_of(every + new),
            "result": _object({"$task": _ref("task")}),
        }
        tools = self._tools()
        edits = [self._call("add", _ref("new"), name, ids) for name, ids in tools.items()]
        if open_:
            self.defs["open"] = _one_of(open_)
            edits += [self._call("change", _ref("open"), name, ids) for name, ids in tools.items()]
            edits.append(_object({"op": _one_of(["remove"]), "id": _ref("open")}))
            ends = {"source": _ref("task"), "target": _ref("open")}
            edits.append(_object({"op": _one_of(["connect"]), **ends, "when": WHEN}))
            edits.append(_object({"op": _one_of(["disconnect"]), **ends}))
        return edits

    def _tools(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for device in self.devices.profiles:
            for name in self.devices.offers(device):
                found.setdefault(name, []).append(device)
        return found

    def _call(self, op: str, id: Schema, tool: str, devices: Sequence[str]) -> Schema:
        """An edit by which a task calls a tool on any of these devices, or a certain one."""
        tags = sorted({tag for device in devices for tag in self.devices.profiles[device].tags})
        offer = self.devices.offers(devices[0])[tool][1]
        properties = {"op": _one_of([op]), "id": id, "tool": _one_of([tool])}
        properties["arguments"] = self._arguments(offer)
        if op == "add":
            waits = _object({"task": _ref("task"), "when": WHEN})
            properties["after"] = {"type": "array", "items": waits, "maxItems": 8}
        properties["device"] = _either(_one_of(devices), {"type": "null"})
        if tags:
            properties["tags"] = {"type": "array", "items": _one_of(tags), "maxItems": len(tags)}
        return _object(properties)

    def _arguments(self, offer: Offer) -> Schema:
        """What a tool takes, where each argument may be a task's result instead."""
        name = f"arguments_of_{_safe(offer.name)}"
        if name not in self.defs:
            given = pydantic_core.from_json(offer.parameters)
            known = given.get("properties") if isinstance(given, dict) else None
            if not isinstance(known, dict):
                self.defs[name] = {"type": "object"}
                return _ref(name)
            own = _Parameters(given.get("$defs") or {}, offer.name, self.bounds, self.defs)
            self.defs[name] = _object(
                {key: own.argument(value) for key, value in known.items()},
                [key for key in given.get("required", ()) if key in known],
            )
        return _ref(name)


@dataclass
class _Parameters:
    """A tool's parameters: what backends enforce of their schemas, with an end to each length.

    What is left out, as of formats and multiples, the device checks.
    """

    own: Mapping[str, Any]
    tool: str
    bounds: ReplyBounds
    defs: dict[str, Schema]

    def argument(self, schema: Any) -> Schema:
        found = self.bounded(schema)
        if found.get("type") == "array":
            found["items"] = _either(found.get("items", {}), _ref("result"))
        return _either(found, _ref("result"))

    def bounded(self, schema: Any) -> Schema:
        if not isinstance(schema, dict):
            return {}
        if "$ref" in schema:
            return self._referred(str(schema["$ref"]))
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return _either(*(self.bounded({**schema, "type": kind}) for kind in kinds))
        for union in ("anyOf", "oneOf"):
            if isinstance(schema.get(union), list):
                return _either(*(self.bounded(one) for one in schema[union]))
        found = {key: schema[key] for key in _COPIED if key in schema}
        if "enum" not in found and "const" not in found:
            found |= self._ends(schema)
        return found

    def _ends(self, schema: Mapping[str, Any]) -> Schema:
        match schema.get("type"):
            case "string" if "pattern" not in schema:
                return {"maxLength": min(schema.get("maxLength", self.bounds.text), 10**6)}
            case "integer" | "number":
                least, most = schema.get("minimum", -LARGEST), schema.get("maximum", LARGEST)
                return {"minimum": least, "maximum": most}
            case "array":
                most = min(schema.get("maxItems", self.bounds.items), 10**4)
                return {"items": self.bounded(schema.get("items")), "maxItems": most}
            case "object":
                return self._object(schema)
        return {}

    def _object(self, schema: Mapping[str, Any]) -> Schema:
        known, more = schema.get("properties"), schema.get("additionalProperties")
        found: Schema = {}
        if isinstance(known, dict):
            found["properties"] = {key: self.bounded(value) for key, value in known.items()}
            found["additionalProperties"] = False
        if isinstance(more, dict):
            found["additionalProperties"] = self.bounded(more)
        return found

    def _referred(self, ref: str) -> Schema:
        """A definition of the tool's own, brought over under a name that is the tool's."""
        key = ref.removeprefix("#/$defs/")
        name = f"{_safe(key)}_of_{_safe(self.tool)}"
        if name not in self.defs:
            self.defs[name] = {}  # it may refer to itself
            self.defs[name] = self.bounded(self.own.get(key, {}))
        return _ref(name)


def _object(properties: Mapping[str, Schema], required: Sequence[str] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties if required is None else required),
        "additionalProperties": False,
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _safe(name: str) -> str:
    """A name for a definition; what references would have to escape is written as its code."""
    return re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):x}_", name)


def _one_of(words: Sequence[str]) -> Schema:
    return {"type": "string", "enum": list(words)}


def _text(most: int) -> Schema:
    return {"type": "string", "maxLength": most}


def _either(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


WHEN = _one_of(["success", "completion", "always"])
