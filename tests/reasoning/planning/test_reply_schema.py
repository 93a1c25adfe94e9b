"""The schema to which a planner is held: what it lets through, and where it is enforced."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import anyio
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from orchestrator.errors import InvalidValue
from protocol import Offer, Profile, Registry
from reasoning.errors import CapabilityMissing
from reasoning.models.loaded import LoadedModel
from reasoning.models.loading import load_model
from reasoning.planning import ChatClient, Constellation, PlannerReply, ReplyBounds
from reasoning.planning.devices import DevicePool, PlannedCall
from reasoning.planning.reply import AddTask, ChangeTask
from reasoning.planning.reply_schema import schema_of
from tests.support.chat_server import chat_server
from tests.support.planning_tools import fleet

anyio_test = pytest.mark.anyio
tools = Registry()


class Colour(enum.Enum):
    red = "red"
    blue = "blue"


class Tree(BaseModel):
    name: str
    below: list[Tree] = []
    size: int | None = None


@tools.tool
def paint(
    what: str, colour: Colour, tree: Tree, parts: list[float], flags: dict[str, bool] | None = None
) -> str:
    """Everything that a parameter can be."""
    return ""


@tools.tool
def look() -> str:
    """Takes nothing."""
    return ""


OFFERS = tuple(callee.offer for callee in tools.tools.values())
FLEET = DevicePool(
    {
        "box": Profile(tools=OFFERS, tags=frozenset({"fast", "gpu"})),
        "bag": Profile(tools=OFFERS[1:]),
    }
)
BOUNDS = ReplyBounds(edits=4, thought=9, text=5, items=2)


def graph(*states: str) -> Any:
    """What a schema needs to know of a graph: its tasks and their states."""
    tasks = [SimpleNamespace(id=f"t{n}", state=state) for n, state in enumerate(states, 1)]
    return SimpleNamespace(tasks=tasks)


GRAPHS = {
    "at first": graph(),
    "under way": graph("succeeded", "running", "waiting", "ready"),
    "all over": graph("succeeded", "failed", "skipped"),
}
SCHEMAS = {name: json.loads(schema_of(FLEET, one, BOUNDS)) for name, one in GRAPHS.items()}


@st.composite
def drawn(draw: st.DrawFn, schema: dict[str, Any], root: dict[str, Any], depth: int = 0) -> Any:
    """A value of a schema, as a backend that enforces it might let a model write it."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    again = partial(drawn, root=root, depth=depth + 1)
    if "anyOf" in schema:
        return draw(again(draw(st.sampled_from(schema["anyOf"]))))
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    kind = schema.get("type")
    if kind == "object":
        known, needed = schema.get("properties", {}), schema.get("required", ())
        return {
            name: draw(again(one))
            for name, one in known.items()
            if name in needed or (depth < 8 and draw(st.booleans()))
        }
    if kind == "array":
        most = min(schema["maxItems"], 3 if depth < 8 else 0)
        return [draw(again(schema["items"])) for _ in range(draw(st.integers(0, most)))]
    return draw(PLAIN[kind](schema))


PLAIN: dict[Any, Callable[[dict[str, Any]], st.SearchStrategy[Any]]] = {
    "string": lambda schema: st.text(max_size=schema["maxLength"]),
    "integer": lambda schema: st.integers(schema["minimum"], schema["maximum"]),
    "number": lambda schema: st.floats(schema["minimum"], schema["maximum"]),
    "boolean": lambda schema: st.booleans(),
    "null": lambda schema: st.none(),
}


@pytest.mark.parametrize("state", GRAPHS)
@settings(max_examples=25)
@given(data=st.data())
def test_what_fits_the_schema_names_true_tools_devices_and_parameters(
    state: str, data: st.DataObject
) -> None:
    schema = SCHEMAS[state]
    value = data.draw(drawn(schema, schema))
    jsonschema.validate(value, schema)
    plan = PlannerReply.parse(json.dumps(value))
    assert len(plan.edits) <= BOUNDS.edits
    for edit in plan.edits:
        if isinstance(edit, AddTask | ChangeTask):
            assert edit.tool is not None
            step = PlannedCall(tool=edit.tool, arguments=edit.arguments or {}, device=edit.device)
            assert FLEET.kind(step) == "tool"


@pytest.mark.parametrize(
    "said",
    [
        {"op": "add", "id": "t9", "tool": "fly", "arguments": {}, "after": [], "device": None},
        {"op": "add", "id": "t1", "tool": "look", "arguments": {}, "after": [], "device": None},
        {"op": "add", "id": "t9", "tool": "look", "arguments": {"x": 1}, "after": []},
        {"op": "add", "id": "t9", "tool": "paint", "arguments": {}, "after": [], "device": "bag"},
        {"op": "remove", "id": "t1"},
        {"op": "remove", "id": "t2"},
    ],
)
def test_what_would_be_refused_by_name_does_not_pass_the_schema(said: dict[str, Any]) -> None:
    schema = SCHEMAS["under way"]
    given_ = {"device": None, "tags": []} if said["op"] == "add" else {}
    reply = {"thought": "", "edits": [given_ | said], "answer": None}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(reply, schema)
    good = {"thought": "", "edits": [{"op": "remove", "id": "t3"}], "answer": None}
    jsonschema.validate(good, schema)


def test_without_devices_nothing_can_be_added_to_the_plan() -> None:
    empty = json.loads(schema_of(DevicePool({}), graph(), BOUNDS))
    assert empty["properties"]["edits"]["maxItems"] == 0
    offer = Offer(name="any/thing", parameters="{}", result="{}")
    free = json.loads(schema_of(DevicePool({"d": Profile(tools=(offer,))}), graph(), BOUNDS))
    edit = {"op": "add", "id": "t1", "tool": "any/thing", "arguments": {"x": [1]}, "after": []}
    reply = {"thought": "", "edits": [edit | {"device": "d"}], "answer": None}
    jsonschema.validate(reply, free)


# ---- where it is enforced ------------------------------------------------------------------------


def least(schema: dict[str, Any]) -> Any:
    """The least value of a schema of the simplest kind."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema["type"]:
        case "object":
            return {name: least(one) for name, one in schema["properties"].items()}
        case "array":
            return [least(schema["items"])] * schema["minItems"]
        case "integer":
            return schema["minimum"]
    return ""


class Server:
    """A chat server that holds to a schema, unless it is one for plans and it is told not to."""

    def __init__(self, *, plans: bool = True) -> None:
        self.plans = plans
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, body: dict[str, Any]) -> str | None:
        self.bodies.append(body)
        form = body.get("response_format")
        if form is None:
            return '{"answer": "free"}'
        schema = form["json_schema"]["schema"]
        if "edits" not in schema["properties"]:
            return json.dumps(least(schema))
        if not self.plans:
            return None
        return json.dumps({"thought": "", "edits": [], "answer": "held"})


async def answered(server: Callable[[dict[str, Any]], str | None], **options: Any) -> Any:
    with chat_server(respond=server) as url:
        model = await anyio.to_thread.run_sync(partial(load_model, None, base_urls=[url]))
        async with fleet() as hub, ChatClient(model, **options) as chat:
            return await Constellation(hub, chat).run("x", seconds=20), chat, model


@anyio_test
async def test_a_chat_server_gets_the_schema_as_response_format() -> None:
    server = Server()
    outcome, chat, model = await answered(server, held=True)
    assert (outcome.answer, chat.unheld) == ("held", None)
    assert isinstance(model, LoadedModel)
    assert {"json-schema"} == {"json-schema", "structured-output"} & model.capabilities
    body = server.bodies[-1]
    assert "structured_outputs" not in body
    assert body["response_format"]["type"] == "json_schema"
    schema = body["response_format"]["json_schema"]["schema"]
    assert "wait" in json.dumps(schema["properties"]["edits"])


@anyio_test
async def test_a_server_that_refuses_the_schema_is_asked_without_it() -> None:
    outcome, chat, _ = await answered(Server(plans=False))
    assert outcome.answer == "free"
    assert "refuses the request" in chat.unheld
    with pytest.raises(ExceptionGroup) as caught:
        await answered(Server(plans=False), held=True)
    assert caught.group_contains(CapabilityMissing, match="leave out --held", depth=None)
    outcome, chat, _ = await answered(Server(), held=False)
    assert (outcome.answer, chat.unheld) == ("free", "it was not asked for")


@anyio_test
async def test_a_server_that_takes_no_notice_of_schemas_is_not_taken_at_its_word() -> None:
    outcome, chat, model = await answered(lambda body: '{"answer": "free"}')
    assert (outcome.answer, chat.unheld) == ("free", "its backend has no json-schema")
    assert not model.backend.profile.json_schema
    with pytest.raises(CapabilityMissing, match="can't be held to a schema"):
        ChatClient(model, held=True)


@anyio_test
async def test_another_error_is_not_taken_for_the_schemas_fault() -> None:
    def full(body: dict[str, Any]) -> str | None:
        held = "response_format" in body and "edits" not in json.dumps(body)
        return Server()(body) if held or "You plan" not in json.dumps(body) else None

    with pytest.raises(ExceptionGroup) as caught:
        await answered(full)
    assert caught.group_contains(InvalidValue, match="refuses the request", depth=None)
