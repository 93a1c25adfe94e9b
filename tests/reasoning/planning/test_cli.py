"""``reason plan`` and ``reason hub --ufo`` as processes, with a model behind a real HTTP server."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner

from tests.reasoning.cli.test_hub_commands import Shell, line
from tests.support.ufo_clients import device, galaxy


class Chat(BaseHTTPRequestHandler):
    """A tiny OpenAI-compatible chat server whose model follows a few rules of its own."""

    respond: Callable[[dict[str, Any]], str | None]

    def do_GET(self) -> None:
        self._send("application/json", json.dumps({"data": [{"id": "tiny"}]}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.path.endswith("/chat/completions"):
            self.send_error(404)
            return
        text = self.respond(body)
        if text is None:
            self.send_error(400)
            return
        if not body.get("stream"):
            choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            self._send("application/json", json.dumps({"choices": [choice]}))
            return
        pieces = [text[i : i + 20] for i in range(0, len(text), 20)]
        chunks = [{"choices": [{"delta": {"content": piece}}]} for piece in pieces]
        chunks.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
        self._send("text/event-stream", "".join([*events, "data: [DONE]\n\n"]))

    def _send(self, kind: str, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _reply(prompt: str) -> str:
    if "You carry out a request on one device" in prompt:
        if 'returned "HI"' in prompt:
            return '{"done": true, "result": "it shouted HI"}'
        return '{"thought": "shout", "tool": "shout", "parameters": {"text": "hi"}}'
    if "t2: add" in prompt and "with 10" in prompt:
        return '{"answer": "10"}'
    if "none yet" not in prompt:
        return "{}"
    if "refused" not in prompt:
        return '<think>try</think>{"edits": [{"op": "add", "id": "t1", "tool": "fly"}]}'
    first = {"op": "add", "id": "t1", "tool": "add", "arguments": {"a": 3, "b": 4}}
    second = {"op": "add", "id": "t2", "tool": "add", "arguments": {"a": {"$task": "t1"}, "b": 3}}
    return f"```json\n{json.dumps({'thought': 'sum up', 'edits': [first, second]})}\n```"


@contextmanager
def chat_server(
    answer: Callable[[str], str] = _reply,
    respond: Callable[[dict[str, Any]], str | None] | None = None,
) -> Iterator[str]:
    """Its address; by default it looks at nothing but the last message."""
    found = respond or (lambda body: answer(body["messages"][-1]["content"]))
    handler = type("Handler", (Chat,), {"respond": staticmethod(found)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    found = Shell(tmp_path)
    yield found
    for process in found.running:
        process.kill()
        process.communicate()


def test_a_plan_is_made_by_a_model_behind_a_server_and_run_by_a_worker_process(
    shell: Shell,
) -> None:
    token, mine = shell.token("box"), shell.token("me", "--scope", "submit")
    hub, url = shell.hub()
    shell.start(
        *("worker", "--hub", url, "--token-file", token, "--no-model"),
        *("--register", "tests.support.protocol_tools:registry"),
    )
    assert line(hub).startswith("box is here")
    with chat_server() as model:
        where = ("--base-url", model, "--hub", url, "--token-file", mine)
        code, out, err = shell.run("plan", "Add 3, 4 and 3", "--json", *where)
        assert code == 0, err
        found = json.loads(out)
        assert (found["status"], found["answer"], found["refused"]) == ("answered", "10", 1)
        assert found["unheld"] == "its backend has no json-schema"
        assert [task["value"] for task in found["tasks"]] == [7, 10]
        assert {task["device"] for task in found["tasks"]} == {"box"}
        code, out, err = shell.run("plan", "Add 3, 4 and 3", *where)
        assert (code, out) == (0, "10")
        code, _, refused = shell.run("plan", "Add 3, 4 and 3", "--held", *where)
    assert code == 2
    assert "tiny can't be held to a schema (its backend has no json-schema)" in refused
    assert "plan 1 refused: add t1: tool: no device offers 'fly'" in err
    assert "plan 2: sum up" in err
    assert "t2 was run by box" in err
    assert "replies were not held to a schema: its backend has no json-schema" in err
    hub.send_signal(signal.SIGTERM)
    assert hub.wait(30) == 0


def test_ufo_clients_come_in_by_the_hubs_second_door_and_a_model_steers_the_device(
    shell: Shell,
) -> None:
    dev = Path(shell.token("dev1")).read_text()
    mine = Path(shell.token("galaxy", "--scope", "submit")).read_text()

    async def shout(parameters: dict[str, Any]) -> str:
        return str(parameters["text"]).upper()

    async def ask(url: str) -> tuple[Any, list[str]]:
        async with (
            device(url, dev, tools={"shout": shout}) as found,
            galaxy(url, mine, "dev1") as client,
        ):
            assert (await client.register()).status == "ok"
            return (await client.run("Shout hi")).result, found.tasks

    with chat_server() as model:
        hub, _ = shell.hub("--ufo", "0", "--base-url", model)
        assert hub.stdout is not None
        url = hub.stdout.readline().strip()
        result, tasks = anyio.run(partial(ask, url))
    assert (result, tasks) == ("it shouted HI", ["Shout hi"])
    hub.send_signal(signal.SIGINT)
    assert hub.wait(30) == 130
    assert hub.stderr is not None
    assert "token" not in hub.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("plan x", "knows its own markup only and can't plan"),
        ("plan ''", "request: it is empty"),
        ("plan x --timeout soon", "timeout: 'soon' is not a time"),
        ("plan x --token-file {no}", "token-file: a token is for a hub elsewhere"),
        ("plan x --hub ws://127.0.0.1:1", "token: there is none in REASON_TOKEN"),
        ("hub --pilot reason-5m", "pilot: a model steers devices of UFO³ only"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_field(
    arguments: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex

    from reasoning.cli.main import main

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("REASON_TOKEN", raising=False)
    done = CliRunner().invoke(main, shlex.split(arguments.format(no=tmp_path / "no")))
    assert done.exit_code == 2, done.output
    (only,) = done.stderr.strip().splitlines()
    assert told in only
