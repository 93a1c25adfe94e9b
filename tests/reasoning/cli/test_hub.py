"""Hub, workers and solve as commands, in processes of their own."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest
from click.testing import CliRunner

from protocol import Client, TaskOutcome, TaskRequest
from tests.support.shell import Shell, line, running_shell

PROBLEM = "Use 3, 10, 21 and 23 to make 50"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with running_shell(tmp_path) as found:
        yield found


def test_solve_spreads_threads_over_workers_one_of_which_is_killed(shell: Shell) -> None:
    token = shell.token("laptop")
    mine = shell.token("me", "--scope", "submit")
    hub, url = shell.hub("--lease", "1")
    workers = [
        shell.start("worker", "--hub", url, "--token-file", token, "--name", name, "--threads", "4")
        for name in "ab"
    ]
    assert {line(hub).split(" ")[0], line(hub).split(" ")[0]} == {"laptop/a", "laptop/b"}
    asked = ("solve", PROBLEM, "--strategy", "apr", "--json", "--quiet")
    code, expected, _ = shell.run(*asked)
    assert code == 0
    solving = shell.start(*asked, "--on", "devices", "--hub", url, "--token-file", mine)
    time.sleep(2)  # it may have begun, or not, or be done
    workers[0].kill()
    out, err = solving.communicate(timeout=120)
    assert solving.returncode == 0, err
    without_time = re.compile(r'"wall_s": [\d.]+')
    assert without_time.sub("", out).strip() == without_time.sub("", expected)
    workers[1].send_signal(signal.SIGTERM)
    assert workers[1].wait(30) == 0
    hub.send_signal(signal.SIGINT)
    assert hub.wait(30) == 130


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: MTExMTExMTExMTExMTExMQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def test_a_signal_ends_a_hub_whoever_is_connected_and_however_they_behave(shell: Shell) -> None:
    """A worker that works, one that is stopped, silent sockets, half heads, mute WebSockets."""
    hub, url = shell.hub("--ufo", "0")
    assert hub.stdout is not None
    ports = [urlsplit(one).port for one in (url, hub.stdout.readline().strip())]
    registered = ("--no-model", "--register", "tests.support.protocol_tools:registry")
    workers = [
        shell.start("worker", "--hub", url, "--token-file", shell.token(name), *registered)
        for name in ("works", "stands")
    ]
    assert {line(hub).split(" ")[0], line(hub).split(" ")[0]} == {"works", "stands"}
    workers[1].send_signal(signal.SIGSTOP)
    with ExitStack() as stack:
        for port in ports:
            for said in (b"", UPGRADE[:40], UPGRADE):
                one = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                one.sendall(said)
        hub.send_signal(signal.SIGTERM)
        assert hub.wait(20) == 0
    workers[1].send_signal(signal.SIGCONT)
    assert hub.stderr is not None
    assert "Traceback" not in hub.stderr.read()


def test_a_full_table_of_descriptors_is_survived_and_told_of_briefly(shell: Shell) -> None:
    hub, url = shell.hub(descriptors=24)
    mine = Path(shell.token("me", "--scope", "submit")).read_text()
    token = shell.token("box")
    registered = ("--no-model", "--register", "tests.support.protocol_tools:registry")
    shell.start("worker", "--hub", url, "--token-file", token, *registered)
    assert line(hub).startswith("box is here")

    async def add(client: Client, id: str) -> TaskOutcome:
        given = '{"a": 1, "b": 2}'
        with anyio.fail_after(20):
            asked = TaskRequest(id=id, kind="tool", name="add", arguments=given)
            return await client.submit(asked).outcome()

    async def flood() -> None:
        async with Client(url, mine) as client:
            await add(client, "before")
            with ExitStack() as stack:
                for number in range(10):
                    for _ in range(50):
                        one = stack.enter_context(socket.socket())
                        one.setblocking(False)
                        one.connect_ex(("127.0.0.1", urlsplit(url).port))
                    assert (await add(client, f"during {number}")).value == "3"
        async with Client(url, mine) as client:
            assert (await add(client, "after")).value == "3"

    anyio.run(flood)
    hub.send_signal(signal.SIGTERM)
    assert hub.wait(20) == 0
    assert hub.stderr is not None
    told = hub.stderr.read()
    assert told.count("out of system resource") in range(1, 31)
    assert len(told) < 30_000


def test_a_token_is_made_listed_rotated_and_revoked(shell: Shell) -> None:
    first = Path(shell.token("w", "--expires", "30d")).read_text()
    code, second, _ = shell.run("token", "rotate", "w")
    assert code == 0
    assert second != first
    assert shell.run("token", "revoke", "w")[0] == 0
    code, shown, _ = shell.run("token", "list")
    assert re.fullmatch(r"w\tfunction,thread,tool\t\S+\trevoked \S+", shown)
    code, shown, _ = shell.run("token", "list", "--json")
    assert '"schema": "reason.tokens/1"' in shown
    assert first.split("_", 2)[2] not in shown
    assert second.split("_", 2)[2] not in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("worker --hub ws://10.0.0.1:1", "token: there is none in REASON_TOKEN"),
        ("worker --hub http://x --token-file {t}", "hub: not the URL of a hub"),
        ("worker --hub ws://10.0.0.1:1 --token-file {t}", "ws:// is plain text"),
        ("worker --hub ws://[::1]:1 --token-file {no}", "token-file: "),
        ("worker --hub ws://[::1]:1 --token-file {t} --resource gpu", "resource: 'gpu'"),
        ("worker --hub ws://[::1]:1 --token-file {t} --patience x", "patience: 'x'"),
        ("worker --hub ws://[::1]:1 --token-file {t} --register no.such:r", "register: no.such:r"),
        ("worker --hub ws://[::1]:1 --token-file {t} --register os:path", "os:path is not a"),
        ("worker --hub ws://[::1]:1 --token-file {t} --no-model --model reason-5m", "no-model"),
        ("worker --hub wss://[::1]:1 --token-file {t} --cert {no}", "tls: a file can't be used"),
        ("worker --hub ws://[::1]:1 --token-file {t} --ca {t}", "tls: ws:// is plain text"),
        ("worker --hub ws://[::1]:1 --token-file {t} --machine a\x7fb", "a control character"),
        ("hub --host 0.0.0.0", "host: 0.0.0.0 can be reached by others"),
        ("hub --tokens /dev/null/x", "tokens: /dev/null/x can't be used"),
        ("hub --cert {no}", "tls: a file can't be used"),
        ("token create ../w", "name: '../w' can't be used"),
        ("token create w --scope root", "scopes: choose from"),
        ("token create w --expires soon", "expires: 'soon'"),
        ("token rotate nobody", "token 'nobody' does not exist"),
        ("token revoke nobody", "token 'nobody' does not exist"),
        ("solve 2+3 --on devices --backend vllm", "on: devices bring their own backends"),
        ("solve 2+3 --hub ws://[::1]:1", "hub: its workers are used with --on devices"),
        ("solve 2+3 --token-file {t}", "hub: its workers are used with --on devices"),
        ("solve 2+3 --on devices --token-file {t}", "token-file: a token is for a hub elsewhere"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_field(
    arguments: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reasoning.cli.main import main

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("REASON_TOKEN", raising=False)
    (tmp_path / "t").write_text("rt_0_0")
    words = arguments.format(t=tmp_path / "t", no=tmp_path / "no").split()
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2, done.output
    (only,) = done.stderr.strip().splitlines()
    assert only.startswith("reason: ")
    assert told in only


def test_a_run_with_no_worker_says_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reasoning.cli import options
    from reasoning.cli.main import main

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("reasoning.cli.commands.solve.PATIENCE_S", 0.2)
    monkeypatch.setattr(options, "HUB_PORT", 0)
    done = CliRunner().invoke(main, ["solve", PROBLEM, "--on", "devices"])
    assert done.exit_code == 1
    assert "start one with reason worker" in done.stderr
