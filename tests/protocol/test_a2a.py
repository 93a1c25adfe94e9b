"""What an A2A client is promised, by a2a-sdk's own client and by plain requests of 1.0.

The names of requirements are those of A2A's technology compatibility kit, branch 1.0-dev.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types.a2a_pb2 import Message, Part, Role, SendMessageRequest, StreamResponse, TaskState

from tests.support.serving_tools import COUNTDOWN, HARD, Server, eventually, serving

VERSION = {"A2A-Version": "1.0"}
EXTENSION = "urn:parallel-reason:a2a:reasoning:1"
LONG = {"skill": "reason-5m/self-consistency", "n": 500, "temperature": 1.0}
BINDINGS = ["rpc", "rest"]


class Caller:
    """One binding: the same operations over JSON-RPC or over HTTP+JSON."""

    def __init__(self, server: Server, binding: str) -> None:
        self.url, self.binding = server.url, binding

    def request(self, name: str, params: dict[str, Any], **headers: str) -> dict[str, Any]:
        """The arguments for httpx of one operation."""
        given = VERSION | {key.replace("_", "-"): value for key, value in headers.items()}
        if self.binding == "rpc":
            body = {"jsonrpc": "2.0", "id": 1, "method": name, "params": params}
            return {"method": "POST", "url": f"{self.url}/a2a", "json": body, "headers": given}
        id = params.get("id", "")
        rest = {
            "SendMessage": ("POST", "/message:send", params),
            "SendStreamingMessage": ("POST", "/message:stream", params),
            "GetTask": ("GET", f"/tasks/{id}", None),
            "ListTasks": ("GET", "/tasks", None),
            "CancelTask": ("POST", f"/tasks/{id}:cancel", {}),
            "SubscribeToTask": ("POST", f"/tasks/{id}:subscribe", {}),
            "GetExtendedAgentCard": ("GET", "/extendedAgentCard", None),
            "CreateTaskPushNotificationConfig": (
                "POST",
                f"/tasks/{params.get('taskId')}/pushNotificationConfigs",
                params,
            ),
        }
        method, path, sent = rest[name]
        query = {k: json.dumps(v).strip('"') for k, v in params.items() if k != "id"}
        more: dict[str, Any] = {"json": sent} if sent is not None else {"params": query}
        return {"method": method, "url": f"{self.url}/a2a/v1{path}", "headers": given, **more}

    def call(self, name: str, params: dict[str, Any], **headers: str) -> Any:
        """The result of an operation, or its error as the reason that A2A has for it."""
        answer = httpx.request(**self.request(name, params, **headers), timeout=60)
        body = answer.json()
        if self.binding == "rpc":
            assert answer.status_code == 200
            return body["result"] if "result" in body else reason(body["error"]["data"])
        if "error" in body:
            assert body["error"]["code"] == answer.status_code
            return reason(body["error"]["details"])
        assert answer.headers["content-type"] == "application/a2a+json"
        return body

    def stream(self, name: str, params: dict[str, Any], **headers: str) -> Iterator[Any]:
        """The events of an operation, each with the number that it came with."""
        request = self.request(name, params, **headers)
        with httpx.stream(**request, timeout=60) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            number = None
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    number = int(line[4:])
                elif line.startswith("data: "):
                    item = json.loads(line[6:])
                    if self.binding == "rpc":
                        assert (item["jsonrpc"], item["id"]) == ("2.0", 1)
                    yield number, item["result"] if self.binding == "rpc" else item


def reason(details: Any) -> str:
    (info,) = [d for d in details if d.get("@type", "").endswith("google.rpc.ErrorInfo")]
    assert info["domain"] == "a2a-protocol.org"
    return str(info["reason"])


@pytest.fixture(params=BINDINGS)
def agent(server: Server, request: pytest.FixtureRequest) -> Caller:
    return Caller(server, request.param)


def message(text: str = COUNTDOWN, wish: dict[str, Any] | None = None, **more: Any) -> Any:
    sent = {"role": "ROLE_USER", "parts": [{"text": text}], "messageId": uuid.uuid4().hex, **more}
    return {"message": sent | ({"metadata": {EXTENSION: wish}} if wish else {})}


def keys(value: Any) -> list[str]:
    """Every name of a field, however deep."""
    if isinstance(value, dict):
        return [*value, *(key for held in value.values() for key in keys(held))]
    return [key for held in value for key in keys(held)] if isinstance(value, list) else []


def state(event: Any) -> str:
    (kind,) = event
    return str(event[kind].get("status", {}).get("state", kind))


def test_the_card_names_every_strategy_as_a_skill(server: Server) -> None:
    told = httpx.get(f"{server.url}/.well-known/agent-card.json")
    card = told.json()
    assert {skill["id"] for skill in card["skills"]} >= {"reason-5m", "reason-5m/apr"}
    assert card["capabilities"]["streaming"] is True
    assert [(i["protocolBinding"], i["protocolVersion"]) for i in card["supportedInterfaces"]] == [
        ("JSONRPC", "1.0"),
        ("HTTP+JSON", "1.0"),
    ]
    assert card["supportedInterfaces"][0]["url"] == f"{server.url}/a2a"
    assert "max-age" in told.headers["cache-control"]  # CARD-CACHE-001
    again = httpx.get(str(told.url), headers={"If-None-Match": told.headers["etag"]})
    assert again.status_code == 304  # CARD-CACHE-002


def test_a_blocking_message_comes_back_with_the_answer(agent: Caller) -> None:
    task = agent.call("SendMessage", message())["task"]  # CORE-SEND-001, EXECUTION-MODE-001
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    (artifact,) = task["artifacts"]
    assert artifact["parts"][0]["text"].endswith("=50")
    assert artifact["extensions"] == [EXTENSION]
    cost = task["metadata"][EXTENSION]
    assert cost["verified"] is True
    assert cost["workTokens"] > cost["spanTokens"] > 0
    assert not [key for key in keys(task) if "_" in key]  # DM-SERIAL-001
    assert re.fullmatch(r"[\d-]+T[\d:]+(\.\d+)?Z", task["status"]["timestamp"])  # DM-SERIAL-003
    assert agent.call("GetTask", {"id": task["id"]}) == task  # CORE-GET-001


def test_a_message_may_return_at_once(agent: Caller) -> None:
    sent = message(HARD, LONG) | {"configuration": {"returnImmediately": True}}
    task = agent.call("SendMessage", sent)["task"]  # CORE-EXECUTION-MODE-002
    assert task["status"]["state"] in ("TASK_STATE_SUBMITTED", "TASK_STATE_WORKING")
    ended = agent.call("CancelTask", {"id": task["id"]})  # CORE-CANCEL-001
    assert ended["status"]["state"] == "TASK_STATE_CANCELED"


def test_a_stream_shows_the_task_then_branches_then_the_final_state(
    agent: Caller,
) -> None:
    events = list(agent.stream("SendStreamingMessage", message()))  # CORE-STREAM-001, 003
    numbers = [number for number, _ in events]
    assert numbers == list(range(1, len(events) + 1))
    assert "task" in events[0][1]
    assert state(events[-1][1]) == "TASK_STATE_COMPLETED"
    thoughts: dict[str, str] = {}
    for _, event in events[1:]:
        update = event.get("statusUpdate", {})
        words = update.get("status", {}).get("message")
        if words:
            branch = update["metadata"][EXTENSION]["branch"]
            thoughts[branch] = thoughts.get(branch, "") + words["parts"][0]["text"]
    assert {"1", "1.1"} <= set(thoughts)
    assert "<spawn>" in thoughts["1"]
    (answer,) = [event["artifactUpdate"] for _, event in events if "artifactUpdate" in event]
    assert answer["artifact"]["parts"][0]["text"].endswith("=50")


def test_the_same_message_again_is_the_same_task(agent: Caller) -> None:
    sent = message()
    first = agent.call("SendMessage", sent)["task"]
    assert agent.call("SendMessage", sent)["task"] == first
    assert [state(event) for _, event in agent.stream("SendStreamingMessage", sent)] == [
        "TASK_STATE_COMPLETED"
    ]
    other = {"message": sent["message"] | {"parts": [{"text": "Hello"}]}}  # an id is no content
    assert agent.call("SendMessage", other)["task"]["id"] != first["id"]
    assert agent.call("SendMessage", sent)["task"] == first


def test_who_has_gone_on_with_a_task_may_say_the_same_again(agent: Caller) -> None:
    sent = message("Hello")
    first = agent.call("SendMessage", sent)["task"]
    assert agent.call("SendMessage", sent)["task"] == first
    more = message("Hello again", taskId=first["id"])
    waiting = agent.call("SendMessage", more)["task"]
    assert agent.call("SendMessage", more)["task"] == waiting  # its answer may have been lost
    second = agent.call("SendMessage", sent)["task"]
    assert second["id"] != first["id"]
    assert agent.call("SendMessage", sent)["task"] == second
    agent.call("CancelTask", {"id": second["id"]})
    third = agent.call("SendMessage", sent)["task"]
    assert third["id"] not in (first["id"], second["id"])
    assert state({"task": third}) == "TASK_STATE_INPUT_REQUIRED"
    assert agent.call("SendMessage", more)["task"] == waiting


def test_the_same_message_while_it_is_worked_on_follows_the_same_task(
    server: Server, agent: Caller
) -> None:
    runs = server.metric("reason_requests_total", endpoint="a2a")
    sent = message(HARD, LONG | {"timeout": 1.5})
    quick = sent | {"configuration": {"returnImmediately": True}}
    ids = {agent.call("SendMessage", quick)["task"]["id"] for _ in range(3)}
    ids |= {agent.call("SendMessage", sent)["task"]["id"]}
    assert len(ids) == 1
    assert server.metric("reason_requests_total", endpoint="a2a") == runs + 1


def test_events_that_were_missed_are_told_again(agent: Caller) -> None:
    sent = message()
    events = list(agent.stream("SendStreamingMessage", sent))
    id = events[0][1]["task"]["id"]
    seen = events[len(events) // 2][0]
    again = list(agent.stream("SubscribeToTask", {"id": id}, Last_Event_ID=str(seen)))
    assert "task" in again[0][1]  # STREAM-SUB-001
    assert again[1:] == events[seen:]
    by_message = list(agent.stream("SendStreamingMessage", sent, Last_Event_ID=str(seen)))
    assert by_message[1:] == events[seen:]


def test_who_subscribes_again_gets_the_rest_while_it_runs(server: Server, agent: Caller) -> None:
    sent = message(HARD, LONG)
    stream = agent.stream("SendStreamingMessage", sent)
    events = [next(stream) for _ in range(5)]
    stream.close()  # type: ignore[attr-defined]
    id = events[0][1]["task"]["id"]
    assert agent.call("GetTask", {"id": id})["status"]["state"] == "TASK_STATE_WORKING"
    again = agent.stream("SubscribeToTask", {"id": id}, Last_Event_ID="3")
    assert "task" in next(again)[1]
    assert [next(again), next(again)] == events[3:5]
    agent.call("CancelTask", {"id": id})
    assert [state(event) for _, event in again][-1] == "TASK_STATE_CANCELED"  # STREAM-SUB-002
    eventually(lambda: server.metric("reason_engine_threads") == 0)


def test_cancelling_stops_every_branch(server: Server, agent: Caller) -> None:
    quick = {"configuration": {"returnImmediately": True}}
    id = agent.call("SendMessage", message(HARD, LONG) | quick)["task"]["id"]
    eventually(lambda: server.metric("reason_engine_threads") >= 400)
    agent.call("CancelTask", {"id": id})
    assert eventually(lambda: server.metric("reason_engine_threads") == 0) < 2
    assert agent.call("CancelTask", {"id": id}) == "TASK_NOT_CANCELABLE"  # CORE-CANCEL-002


def test_a_question_that_can_t_be_answered_may_be_asked_otherwise(agent: Caller) -> None:
    task = agent.call("SendMessage", message("Use 1, 1, 1 and 1 to make 99"))["task"]
    assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    assert "can't make 99" in task["status"]["message"]["parts"][0]["text"]
    wrong = message(taskId=task["id"], contextId="another")
    assert agent.call("SendMessage", wrong) == "INVALID_PARAMS"  # CORE-MULTI-006
    done = agent.call("SendMessage", message(taskId=task["id"]))["task"]  # CORE-MULTI-005
    assert done["id"] == task["id"]
    assert done["contextId"] == task["contextId"]
    assert done["status"]["state"] == "TASK_STATE_COMPLETED"
    roles = [said["role"] for said in done["history"]]
    assert roles == ["ROLE_USER", "ROLE_AGENT", "ROLE_USER"]  # CORE-HIST-005
    short = agent.call("GetTask", {"id": task["id"], "historyLength": 1})
    assert len(short["history"]) == 1  # CORE-HIST-002
    assert "history" not in agent.call("GetTask", {"id": task["id"], "historyLength": 0})
    ended = message(taskId=task["id"])
    assert agent.call("SendMessage", ended) == "UNSUPPORTED_OPERATION"  # CORE-SEND-002


def test_a_task_that_waits_can_be_followed_and_cancelled(agent: Caller) -> None:
    task = agent.call("SendMessage", message("Hello"))["task"]
    stream = agent.stream("SubscribeToTask", {"id": task["id"]})
    assert state(next(stream)[1]) == "TASK_STATE_INPUT_REQUIRED"
    ended = agent.call("CancelTask", {"id": task["id"]})
    assert ended["status"]["state"] == "TASK_STATE_CANCELED"
    assert [state(event) for _, event in stream] == ["TASK_STATE_CANCELED"]


@pytest.mark.parametrize(
    ("name", "params", "why"),
    [
        ("GetTask", {"id": "none"}, "TASK_NOT_FOUND"),  # CORE-GET-002
        ("CancelTask", {"id": "none"}, "TASK_NOT_FOUND"),  # CORE-CANCEL-003
        ("SubscribeToTask", {"id": "none"}, "TASK_NOT_FOUND"),  # STREAM-SUB-004
        ("SendMessage", message(taskId="none"), "TASK_NOT_FOUND"),  # CORE-MULTI-004
        ("SendMessage", {}, "INVALID_PARAMS"),  # CORE-ERR-002
        ("SendMessage", {"message": {"role": "ROLE_USER"}}, "INVALID_PARAMS"),
        ("SendMessage", message(role="ROLE_AGENT"), "INVALID_PARAMS"),
        ("SendMessage", message(wish={"n": 0}), "INVALID_PARAMS"),
        ("SendMessage", message(wish={"skill": "none"}), "INVALID_PARAMS"),
        ("SendMessage", message(wish={"colour": "red"}), "INVALID_PARAMS"),
        (
            "SendMessage",  # CORE-SEND-003
            message(parts=[{"raw": "dGNr", "mediaType": "application/x-none"}]),
            "CONTENT_TYPE_NOT_SUPPORTED",
        ),
        ("SendMessage", message(parts=[{"data": {"a": 1}}]), "CONTENT_TYPE_NOT_SUPPORTED"),
        (
            "CreateTaskPushNotificationConfig",  # CORE-CAP-001
            {"taskId": "t", "url": "https://example.com"},
            "PUSH_NOTIFICATION_NOT_SUPPORTED",
        ),
        (
            "SendMessage",
            message() | {"configuration": {"taskPushNotificationConfig": {"url": "https://e.com"}}},
            "PUSH_NOTIFICATION_NOT_SUPPORTED",
        ),
        ("GetExtendedAgentCard", {}, "UNSUPPORTED_OPERATION"),  # CORE-CAP-003
        ("ListTasks", {"pageSize": 0}, "INVALID_PARAMS"),
        ("ListTasks", {"pageToken": "?"}, "INVALID_PARAMS"),
        ("ListTasks", {"pageSize": 150}, "INVALID_PARAMS"),
        ("ListTasks", {"historyLength": -5}, "INVALID_PARAMS"),
        ("ListTasks", {"status": "TASK_STATE_RUNNING"}, "INVALID_PARAMS"),
    ],
)
def test_errors_have_the_reason_that_a2a_has_for_them(
    agent: Caller, name: str, params: dict[str, Any], why: str
) -> None:
    assert agent.call(name, params) == why


def test_a_version_that_is_not_spoken_is_refused(agent: Caller) -> None:
    for version in ("99.0", "0.3", "x"):  # VER-SERVER-002
        refused = agent.call("SendMessage", message(), A2A_Version=version)
        assert refused == "VERSION_NOT_SUPPORTED"
    assert agent.call("SendMessage", message(), A2A_Version="1.0.1")["task"]


def test_the_version_may_be_a_parameter_of_the_request(server: Server, agent: Caller) -> None:
    def ask(headers: dict[str, str], **query: str) -> Any:
        request = agent.request("GetTask", {"id": "none"}) | {"headers": headers, "params": query}
        error = httpx.request(**request).json()["error"]
        return reason(error["data"] if agent.binding == "rpc" else error["details"])

    assert ask({}, **{"A2A-Version": "1.0"}) == "TASK_NOT_FOUND"  # A2A 1.0, 3.6.1
    assert ask({}, **{"A2A-Version": "0.3"}) == "VERSION_NOT_SUPPORTED"
    assert ask({}) == "VERSION_NOT_SUPPORTED"  # VER-SERVER-003: none is 0.3
    assert ask({"A2A-Version": "99.0"}, **{"A2A-Version": "1.0"}) == "VERSION_NOT_SUPPORTED"


def test_json_rpc_is_at_its_url_with_a_slash_too(server: Server) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {}}
    with httpx.Client(base_url=f"{server.url}/a2a", headers=VERSION) as client:
        answer = client.post("/", json=body)  # what a client with a base URL asks for
        assert answer.request.url.path == "/a2a/"
        assert "tasks" in answer.json()["result"]


def test_a_wish_may_be_written_by_the_extension_s_short_name(agent: Caller) -> None:
    sent = message()
    sent["message"]["metadata"] = {"x_reason": {"skill": "reason-5m/single"}}
    task = agent.call("SendMessage", sent)["task"]
    assert task["metadata"][EXTENSION]["strategy"] == "single"
    sent = message(wish={"skill": "reason-5m/apr"})
    sent["message"]["metadata"]["x_reason"] = {"skill": "none"}
    assert agent.call("SendMessage", sent)["task"]["metadata"][EXTENSION]["strategy"] == "apr"


def test_a_task_that_has_ended_can_t_be_subscribed_to(agent: Caller) -> None:
    id = agent.call("SendMessage", message())["task"]["id"]
    refused = agent.call("SubscribeToTask", {"id": id})  # STREAM-SUB-003
    assert refused == "UNSUPPORTED_OPERATION"


def test_json_rpc_has_its_own_errors(server: Server) -> None:
    def code(**kwargs: Any) -> int:
        return int(httpx.post(f"{server.url}/a2a", **kwargs).json()["error"]["code"])

    body = {"jsonrpc": "2.0", "id": 1, "method": "Sing", "params": {}}
    assert code(json=body, headers=VERSION) == -32601
    assert code(content=b"{", headers=VERSION | {"Content-Type": "application/json"}) == -32700
    assert code(json={"id": 1, "method": "GetTask"}, headers=VERSION) == -32600
    assert code(json=[body], headers=VERSION) == -32600
    text = VERSION | {"Content-Type": "text/plain"}
    assert code(content=json.dumps(body), headers=text) == -32005


def test_a_body_that_is_too_large_is_refused_however_it_comes(server: Server) -> None:
    body = b"x" * ((1 << 20) + 1)
    kind = VERSION | {"Content-Type": "application/json"}
    for url in (f"{server.url}/a2a", f"{server.url}/a2a/v1/message:send"):
        assert httpx.post(url, content=body, headers=kind).status_code == 413
        pieces = iter([body])  # without a Content-Length
        assert httpx.post(url, content=pieces, headers=kind).status_code == 413


def test_every_error_of_the_http_binding_is_a_google_rpc_status(server: Server) -> None:
    def error(method: str, path: str, **more: Any) -> tuple[int, str, bool]:
        answer = httpx.request(method, f"{server.url}/a2a/v1{path}", **more)
        told = answer.json()["error"]  # HTTP_JSON-ERR-001
        assert told["code"] == answer.status_code
        return told["code"], told["status"], bool(told["message"])

    assert error("GET", "/none") == (404, "NOT_FOUND", True)
    assert error("PUT", "/tasks") == (405, "UNIMPLEMENTED", True)
    assert error("GET", "/tasks", headers={"Origin": "http://e.com"})[:2] == (
        403,
        "PERMISSION_DENIED",
    )
    large = {"content": b"x" * ((1 << 20) + 1), "headers": {"Content-Type": "application/json"}}
    assert error("POST", "/message:send", **large)[:2] == (413, "INVALID_ARGUMENT")


def test_tasks_are_listed_in_pages_newest_first(agent: Caller) -> None:
    context = uuid.uuid4().hex
    made = [agent.call("SendMessage", message("Hi", contextId=context))["task"] for _ in range(3)]
    assert {task["contextId"] for task in made} == {context}  # CORE-MULTI-002
    seen: list[str] = []
    token = ""
    while True:
        page = agent.call("ListTasks", {"contextId": context, "pageSize": 2, "pageToken": token})
        assert page["totalSize"] == 3
        seen += [task["id"] for task in page["tasks"]]
        assert all("artifacts" not in task for task in page["tasks"])  # CORE-LIST-005
        token = page["nextPageToken"]  # CORE-LIST-002, 004
        if not token:
            break
    assert seen == [task["id"] for task in reversed(made)]  # CORE-LIST-003


def test_unknown_fields_and_extensions_are_ignored(agent: Caller) -> None:
    sent = message("Hi", someNewField=1) | {"other": 2}  # DM-SERIAL-005, SVC-002
    assert agent.call("SendMessage", sent, A2A_Extensions="https://example.com/e/1")["task"]


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Any]:
    async with httpx.AsyncClient(timeout=60) as http:
        card = await A2ACardResolver(http, server.url).get_agent_card()
        made = ClientFactory(ClientConfig(httpx_client=http)).create(card)
        yield made
        await made.close()


@pytest.mark.anyio
async def test_the_sdk_s_own_client_gets_an_answer(client: Any) -> None:
    sent = Message(message_id=uuid.uuid4().hex, role=Role.ROLE_USER, parts=[Part(text=COUNTDOWN)])
    events: list[StreamResponse] = [
        event async for event in client.send_message(SendMessageRequest(message=sent))
    ]
    assert events[0].HasField("task")
    assert events[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
    (artifact,) = [e.artifact_update.artifact for e in events if e.HasField("artifact_update")]
    assert artifact.parts[0].text.endswith("=50")


def test_an_owner_sees_no_other_owner_s_tasks(tmp_path_factory: pytest.TempPathFactory) -> None:
    keys = ["first-key-0123456789", "second-key-0123456789"]
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text("\n".join(keys))
    with serving("--a2a", "--api-key-file", str(file)) as server:
        agent = Caller(server, "rest")
        first, second = ({"Authorization": f"Bearer {key}"} for key in keys)
        for binding in BINDINGS:  # AUTH-SERVER-002, BIND-EQUIV-004
            asked = Caller(server, binding).request("ListTasks", {}, Authorization="Bearer none")
            assert httpx.request(**asked).status_code == 401
        told = httpx.get(f"{server.url}/a2a/v1/tasks", headers=VERSION)
        assert told.json()["error"]["status"] == "UNAUTHENTICATED"
        sent = message("Hi")
        id = agent.call("SendMessage", sent, **first)["task"]["id"]  # CORE-LIST-001
        assert agent.call("GetTask", {"id": id}, **first)["id"] == id
        assert agent.call("GetTask", {"id": id}, **second) == "TASK_NOT_FOUND"
        assert agent.call("ListTasks", {}, **second)["tasks"] == []
        assert agent.call("SendMessage", sent, **second)["task"]["id"] != id
        card = httpx.get(f"{server.url}/.well-known/agent-card.json").json()
        assert card["securitySchemes"]["key"]["httpAuthSecurityScheme"]["scheme"] == "bearer"
