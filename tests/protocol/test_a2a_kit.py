"""What the technology compatibility kit's scenarios find behind `tests.support.a2a_kit`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.protocol.test_a2a import BINDINGS, LONG, VERSION
from tests.support.a2a_kit import asked, front
from tests.support.serving_tools import COUNTDOWN, Server

pytestmark = pytest.mark.anyio


@pytest.fixture
async def kit(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    app = front(server.url, LONG | {"timeout": 1})
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield client


async def send(kit: httpx.AsyncClient, binding: str, id: str, **more: Any) -> Any:
    """The task that a message of the kit's comes to."""
    now = more.pop("now", False)
    message = {"role": "ROLE_USER", "messageId": id, "parts": [{"text": "from the kit"}], **more}
    params = {"message": message, "configuration": {"returnImmediately": now}}
    if binding == "rest":
        return (await kit.post("/a2a/v1/message:send", json=params, headers=VERSION)).json()["task"]
    call = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}
    return (await kit.post("/a2a/", json=call, headers=VERSION)).json()["result"]["task"]


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_message_s_id_says_where_its_task_goes(
    kit: httpx.AsyncClient, binding: str
) -> None:
    run = uuid.uuid4().hex
    task = await send(kit, binding, f"tck-input-required-{run}")
    assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    task = await send(kit, binding, f"tck-complete-task-{run}", taskId=task["id"])
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    task = await send(kit, binding, f"tck-delayed-complete-{run}", now=True)
    assert task["status"]["state"] in ("TASK_STATE_SUBMITTED", "TASK_STATE_WORKING")
    ended = await send(kit, binding, f"tck-delayed-complete-{run}")
    assert ended["status"]["state"] in ("TASK_STATE_COMPLETED", "TASK_STATE_FAILED")


async def test_what_carries_no_text_is_passed_on_as_it_is(kit: httpx.AsyncClient) -> None:
    card = (await kit.get("/.well-known/agent-card.json")).json()
    assert {skill["id"] for skill in card["skills"]} >= {"reason-5m/apr"}
    for body in (b"", b"{", b"[]", b'{"message": {"parts": [{"raw": "dGNr"}]}}'):
        assert asked(body, LONG) == body
    assert COUNTDOWN.encode() in asked(
        b'{"message": {"messageId": "m", "parts": [{"text": ""}]}}', LONG
    )
