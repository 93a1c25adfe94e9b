"""``reason plan`` and ``reason hub --ufo`` as processes, with a model behind a real HTTP server."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner

from reasoning.cli import options
from reasoning.cli.main import main
from tests.support.chat_server import chat_server
from tests.support.shell import Shell, line, running_shell
from tests.support.ufo_clients import device, galaxy


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with running_shell(tmp_path) as found:
        yield found


def test_a_model_behind_a_server_plans_and_a_worker_process_runs_it(
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


@pytest.mark.parametrize("listens", [False, True])
def test_a_hub_that_does_not_answer_is_told_of_within_seconds(
    listens: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens there, or somebody who never says a word."""
    monkeypatch.setattr(options, "FIRST_S", 0.5)
    monkeypatch.setenv("REASON_TOKEN", "rt_0_0")
    with socket.create_server(("127.0.0.1", 0)) as listener, chat_server() as model:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        if not listens:
            listener.close()
        words = ["plan", "x", "--hub", url, "--base-url", model]
        done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    (only,) = done.stderr.strip().splitlines()
    assert only.startswith(f"reason: hub {url} can't be reached (")
    assert only.endswith("is it running?")


def test_a_plan_says_which_worker_nearly_could_and_why_it_can_not(shell: Shell) -> None:
    """The device offers the tool, but its token is for threads alone."""
    token = shell.token("box", "--scope", "thread")
    hub, url = shell.hub()
    shell.start(
        *("worker", "--hub", url, "--token-file", token, "--no-model"),
        *("--register", "tests.support.protocol_tools:registry"),
    )
    assert line(hub).startswith("box is here")
    mine = shell.token("me", "--scope", "submit")
    with chat_server() as model:
        where = ("--base-url", model, "--hub", url, "--token-file", mine)
        code, _, err = shell.run("plan", "Add 3, 4 and 3", "--patience", "0.5s", *where)
    assert code == 1
    why = "box offers it, but its token is not for the kind tool"
    assert re.search(f"t1 waits: .*{why}", err)
    assert re.search(f"t1 failed: .*{why}", err)


def test_ufo_clients_dial_the_hub_and_a_model_steers_their_device(
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

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("REASON_TOKEN", raising=False)
    done = CliRunner().invoke(main, shlex.split(arguments.format(no=tmp_path / "no")))
    assert done.exit_code == 2, done.output
    (only,) = done.stderr.strip().splitlines()
    assert told in only
