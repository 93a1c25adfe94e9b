"""Others' own programs against this project: A2A's compatibility kit and UFO³'s clients.

    python benchmarks/interop.py a2a KIT --python KITS_PYTHON --json benchmarks/results/a2a-kit.json
    python benchmarks/interop.py ufo UFO --python UFOS_PYTHON --json benchmarks/results/ufo.json

KIT and UFO are folders with what a2aproject/a2a-tck (branch 1.0-dev) and microsoft/UFO hold,
outside of this repository, and the interpreters have what these need; nothing of them is changed or
kept.  Everything listens and connects on 127.0.0.1.  Findings are written as they are: a check that
fails ends the command with an error only if ``--strict`` is given.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio

from protocol import Hub, HubSettings, RemoteFailure, TaskNeeds, TaskRequest, TokenStore
from protocol.ufo import SecretStore, UfoServer, UfoSettings

ROOT = Path(__file__).parents[1]
KIT_PORT, TOOLS_PORT = 9999, 8010
"""Their configurations name these."""


@contextmanager
def running(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process, until the block is left; what it says goes to a file."""
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until_listening(port: int, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    """Wait until something listens.

    Raises:
        RuntimeError: the process ended, or took too long.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"nothing listens on port {port}; see its log")


# ---- A2A -----------------------------------------------------------------------------------------


def a2a(kit: Path, python: str, folder: Path) -> dict[str, Any]:
    """Run the kit against ``reason serve --a2a`` behind `tests.support.a2a_kit`."""
    agent = [sys.executable, "-m", "tests.support.a2a_kit", "--port", str(KIT_PORT)]
    with running(agent, folder / "agent.log", cwd=ROOT) as process:
        until_listening(KIT_PORT, process)
        transports = ["--transport", "jsonrpc,http_json"]
        command = [python, "run_tck.py", "--sut-host", f"http://127.0.0.1:{KIT_PORT}", *transports]
        path = os.pathsep.join([str(Path(python).parent), os.environ["PATH"]])
        subprocess.run(command, cwd=kit, env=os.environ | {"PATH": path}, check=False)
    found = json.loads((kit / "reports" / "compatibility.json").read_text())
    rows = found["per_requirement"]
    return {
        "schema": "benchmark.a2a-kit/1",
        "summary": {k: v for k, v in found["summary"].items() if k.endswith("compatibility")},
        "passed": sum(row["status"] == "PASS" for row in rows.values()),
        "failed": {
            id: {"level": row["level"], "transports": row["transports"], "errors": row["errors"]}
            for id, row in sorted(rows.items())
            if row["status"] == "FAIL"
        },
        "skipped": sum(row["status"] not in ("PASS", "FAIL") for row in rows.values()),
    }


# ---- UFO³ ----------------------------------------------------------------------------------------

GALAXY = """
import asyncio, json, sys
from galaxy.client.device_manager import ConstellationDeviceManager

async def main():
    url, requests = sys.argv[1], json.loads(sys.argv[2])
    manager = ConstellationDeviceManager(task_name="interop")
    connected = await manager.register_device("dev1", url, "linux", capabilities=["shell"])
    found = {"connected": connected, "results": []}
    for number, request in enumerate(requests if connected else []):
        result = await manager.assign_task_to_device(f"t{number}", "dev1", request, {}, timeout=30)
        found["results"].append([str(result.status), str(result.result), str(result.error)])
    found["info"] = manager.get_device_system_info("dev1")
    await manager.shutdown()
    print("FOUND" + json.dumps(found, default=str))

asyncio.run(main())
"""


class Checks:
    """What was looked at, whether it was right, and what was seen."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, what: str, right: bool, saw: object) -> None:
        row = {"check": what, "right": right, "saw": str(saw)[:300]}
        self.rows.append(row)
        print(("ok   " if right else "BAD  ") + f"{what}: {row['saw']}", flush=True)


def call(id: str, name: str, **arguments: Any) -> TaskRequest:
    text, needs = json.dumps(arguments), TaskNeeds(worker="dev1")
    return TaskRequest(id=id, kind="tool", name=name, arguments=text, needs=needs, deadline_s=60)


async def outcome(hub: Hub, request: TaskRequest) -> str:
    """A call's value, or why it failed."""
    try:
        return (await hub.submit(request).outcome()).value
    except RemoteFailure as error:
        return f"failed: {error}"


async def wait_for(condition: Callable[[], Any], seconds: float) -> bool:
    with anyio.move_on_after(seconds):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.05)
    return bool(condition())


@asynccontextmanager
async def served(folder: Path, key: str, port: int) -> AsyncIterator[tuple[Hub, str]]:
    """A hub with a port for UFO³'s clients, whose linux tools want a key."""
    store = SecretStore(folder / "secrets.json")
    store.set("linux", key, parameter="api_key", devices=frozenset({"dev1"}))
    tokens = TokenStore(folder / "tokens.db")
    settings = UfoSettings(port=port)
    async with (
        Hub(HubSettings(), tokens=tokens) as hub,
        UfoServer(hub, settings, secrets=store) as ufo,
    ):
        yield hub, ufo.url


async def with_tools(hub: Hub, checks: Checks) -> None:
    joined = await wait_for(lambda: "dev1" in hub.workers, 120)
    checks.add("the device joins", joined, "")
    if not joined:
        return
    offers = {offer.name: offer.parameters for offer in hub.workers["dev1"].tools}
    checks.add("its tools are there", "execute_command" in offers, sorted(offers))
    hidden = all("api_key" not in text for text in offers.values())
    checks.add("no tool shows its key's parameter", hidden, offers.get("execute_command"))
    said = await outcome(hub, call("1", "execute_command", command="echo interop"))
    checks.add(
        "a command runs with the hub's key", "interop" in said and "failed" not in said, said
    )
    said = await outcome(hub, call("2", "get_system_info"))
    checks.add("system information comes", "Linux" in said or "linux" in said, said)
    said = await outcome(hub, call("3", "execute_command", command="rm -rf /nowhere"))
    checks.add("a command that their tool forbids is refused there", "blocked" in said, said)
    said = await outcome(hub, call("4", "execute_command", wrong=1))
    checks.add("wrong parameters are a failure in words", said.startswith("failed"), said)
    said = await outcome(hub, call("5", "execute_command", command="echo", api_key="guess"))
    checks.add("whoever gives a key is refused", "the hub fills in" in said, said)
    listed = {"commands": [{"tool_name": "execute_command", "parameters": {"command": "date"}}]}
    said = await outcome(hub, call("6", "request", request=json.dumps(listed)))
    checks.add("a request of commands is carried out", "failed" not in said, said)


async def with_galaxy(url: str, python: str, ufo: Path, token: str, checks: Checks) -> None:
    good = json.dumps({"commands": [{"tool_name": "get_system_info", "parameters": {}}]})
    command = [python, "-c", GALAXY, f"{url}?token={token}", json.dumps([good, "in words"])]
    environment = os.environ | {"PYTHONPATH": str(ufo)}
    with anyio.move_on_after(180):
        done = await anyio.run_process(command, cwd=ufo, env=environment, check=False)
        said = done.stdout.decode(errors="replace")
        found = json.loads(said.partition("FOUND")[2] or "{}")
        checks.add("Galaxy's device manager connects", bool(found.get("connected")), found)
        results = found.get("results", [["", "", ""], ["", "", ""]])
        checks.add("its request is carried out", "completed" in results[0][0].lower(), results[0])
        refused = "failed" in results[1][0].lower() or "no model" in str(results[1])
        checks.add("a request in words fails by name without a model", refused, results[1])
        return
    checks.add("Galaxy's device manager ends", False, "it took more than 180 s")


async def ufo_clients(ufo: Path, python: str, folder: Path, checks: Checks) -> None:
    key = secrets.token_urlsafe(24)
    environment = os.environ | {"PYTHONPATH": str(ufo)}
    tools = [python, "-m", "ufo.client.mcp.http_servers.linux_mcp_server", "--host", "localhost"]
    with running(
        [*tools, "--port", str(TOOLS_PORT)],
        folder / "tools.log",
        cwd=ufo,
        env=environment | {"UFO_MCP_API_KEY": key},
    ) as server:
        until_listening(TOOLS_PORT, server)
        async with AsyncExitStack() as stack:
            hub, url = await stack.enter_async_context(served(folder, key, 0))
            port = int(url.rpartition(":")[2].partition("/")[0])
            token = hub.tokens.create("dev1")
            mine = hub.tokens.create("galaxy", scopes=["submit"])
            client = [python, "-m", "ufo.client.client", "--ws", "--client-id", "dev1"]
            client += ["--ws-server", f"{url}?token={token}", "--platform", "linux"]
            client += ["--max-retries", "12", "--log-level", "INFO"]
            with running(client, folder / "device.log", cwd=ufo, env=environment) as process:
                await with_tools(hub, checks)
                await with_galaxy(url, python, ufo, mine, checks)
                await stack.aclose()  # the hub ends, and the device dials again
                await _return(folder, key, port, process, checks)
    for name in ("tokens.db", "device.log"):
        text = (folder / name).read_bytes()
        checks.add(f"{name} holds no key", key.encode() not in text, f"{len(text)} bytes")


async def _return(
    folder: Path, key: str, port: int, process: subprocess.Popen[bytes], checks: Checks
) -> None:
    """A hub that comes back finds the device again; a revoked token ends it."""
    await anyio.sleep(1)
    async with served(folder, key, port) as (hub, _):
        back = await wait_for(lambda: "dev1" in hub.workers, 120)
        checks.add("the device finds a hub that was restarted", back, process.poll())
        hub.tokens.revoke("dev1")
        gone = await wait_for(lambda: "dev1" not in hub.workers, 10)
        checks.add("a revoked token ends its connection", gone, "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["a2a", "ufo"])
    parser.add_argument("folder", type=Path, help="where their files lie")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with their needs")
    parser.add_argument("--json", type=Path, help="also write the findings here")
    parser.add_argument("--strict", action="store_true", help="fail if a check fails")
    parser.add_argument("--logs", type=Path, help="keep the logs of their processes here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.logs or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if options.what == "a2a":
            found = a2a(options.folder, options.python, folder)
            bad = bool(found["failed"])
        else:
            checks = Checks()
            anyio.run(ufo_clients, options.folder.resolve(), options.python, folder, checks)
            found = {"schema": "benchmark.ufo/1", "checks": checks.rows}
            bad = not all(row["right"] for row in checks.rows)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(1 if bad and options.strict else 0)


if __name__ == "__main__":
    main()
