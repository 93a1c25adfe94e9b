"""Secrets that tools want with each call: the hub has them, and nobody else ever sees them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orchestrator.errors import InvalidValue
from protocol import Client, Hub, RemoteFailure, TaskNeeds, TaskRequest, TokenStore
from protocol.hub.directory import Directory
from protocol.ufo import SecretStore, UfoServer, UfoSettings
from reasoning.cli.main import main
from reasoning.planning import Constellation, ModelPilot
from tests.support.planning_tools import Script, add
from tests.support.protocol_tools import until
from tests.support.ufo_clients import device

anyio_test = pytest.mark.anyio

KEY = 'k3y "of" the\\tools'
TAKES = ("text", "api_key")


def store_in(folder: Path) -> SecretStore:
    store = SecretStore(folder / "state" / "secrets.json")
    store.set("linux", KEY, parameter="api_key", devices=frozenset({"dev1"}))
    return store


def ask(name: str, arguments: dict[str, Any], id: str = "1", device: str = "dev1") -> TaskRequest:
    text, needs = json.dumps(arguments), TaskNeeds(worker=device)
    return TaskRequest(id=id, kind="tool", name=name, arguments=text, needs=needs)


@anyio_test
async def test_a_planned_call_brings_its_key_and_nobody_else_sees_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The device's tool repeats its key in a value, in an error and in a request's answer."""
    keys: list[Any] = []
    seen: list[Any] = []

    async def show(parameters: dict[str, Any]) -> Any:
        keys.append(parameters.get("api_key"))
        if parameters["text"] == "fail":
            raise ValueError(f"wrong input: {parameters}, {json.dumps(parameters)}")
        return {"said": parameters["text"], "all": json.dumps(parameters), KEY: [KEY]}

    def asked(prompt: str) -> dict[str, Any]:
        return {"answer": "ok"} if "c: request" in prompt and "with" in prompt else {}

    caplog.set_level(logging.DEBUG)
    first = [add("a", "show", {"text": "hi"}), add("b", "show", {"text": "fail"})]
    after = {"a": "completion", "b": "completion"}
    second = add("c", "request", {"request": "show it"}, after=after)
    planner = Script({"edits": first}, {"edits": [second]}, *[asked] * 5)
    pilot = Script({"tool": "show", "parameters": {"text": "x"}}, {"done": True, "result": "did"})
    tokens = TokenStore(tmp_path / "state" / "tokens.db")
    async with (
        Hub(tokens=tokens) as hub,
        UfoServer(hub, pilot=ModelPilot(pilot), secrets=store_in(tmp_path)) as ufo,
        device(ufo.url, hub.tokens.create("dev1"), tools={"show": show}, takes=TAKES),
    ):
        hub.observe(seen.append)
        Directory(hub).open()
        await until(lambda: "dev1" in hub.workers)
        offers = {offer.name: json.loads(offer.parameters) for offer in hub.workers["dev1"].tools}
        assert list(offers["show"]["properties"]) == ["text"]
        token = hub.tokens.create("me", scopes=["submit"])
        async with Client(hub.url, token) as client:
            constellation = Constellation(client, planner)
            constellation.events.subscribe(seen.append)
            outcome = await constellation.run("Do it", seconds=30, journal=tmp_path / "run.db")
    assert outcome.answer == "ok"
    assert keys == [KEY] * 3
    tasks = {task.id: task for task in outcome.tasks}
    assert tasks["a"].value["[secret linux]"] == ["[secret linux]"]
    assert "[secret linux]" in (tasks["b"].error or "")
    logs = [one.getMessage() for one in caplog.records if one.name != "websockets.client"]
    for text in (repr(seen), repr(outcome), *planner.prompts, *pilot.prompts, *logs):
        assert "k3y" not in text
    _check_files(tmp_path)


def _check_files(folder: Path) -> None:
    files = {path.name: path for path in folder.rglob("*") if path.is_file()}
    assert b"k3y" in files.pop("secrets.json").read_bytes()
    assert {"run.db", "tokens.db"} <= set(files)
    for path in files.values():
        assert b"k3y" not in path.read_bytes(), path


@anyio_test
async def test_a_key_is_for_its_devices_alone_and_not_for_whoever_asks(tmp_path: Path) -> None:
    """A device can't have another's key by offering a tool with such a parameter."""
    got: list[Any] = []

    async def steal(parameters: dict[str, Any]) -> str:
        got.append(parameters)
        return "x"

    tools = {"steal": steal}
    async with (
        Hub() as hub,
        UfoServer(hub, UfoSettings(discover_s=0.5), secrets=store_in(tmp_path)) as ufo,
        device(ufo.url, hub.tokens.create("dev1"), tools=tools, takes=TAKES),
        device(ufo.url, hub.tokens.create("dev2"), "dev2", tools=tools, takes=TAKES),
    ):
        await until(lambda: {"dev1", "dev2"} <= set(hub.workers))
        for name in ("dev1", "dev2"):
            await hub.submit(ask("steal", {}, name, name)).outcome()
        with pytest.raises(RemoteFailure, match="api_key is a secret, which the hub fills in"):
            await hub.submit(ask("steal", {"api_key": "guess"}, "3")).outcome()
    assert got == [{"api_key": KEY}, {}]


@anyio_test
async def test_a_key_that_is_set_anew_or_removed_counts_from_the_next_call(tmp_path: Path) -> None:
    got: list[Any] = []

    async def show(parameters: dict[str, Any]) -> str:
        got.append(parameters.get("api_key"))
        return "x"

    store = store_in(tmp_path)
    async with (
        Hub() as hub,
        UfoServer(hub, UfoSettings(discover_s=0.5), secrets=store) as ufo,
        device(ufo.url, hub.tokens.create("dev1"), tools={"show": show}, takes=TAKES),
    ):
        await until(lambda: "dev1" in hub.workers)
        await hub.submit(ask("show", {}, "1")).outcome()
        other = SecretStore(store.path)  # another process
        other.set("linux", "rotated-key", parameter="api_key", devices=frozenset({"dev1"}))
        await hub.submit(ask("show", {}, "2")).outcome()
        other.remove("linux")
        await hub.submit(ask("show", {}, "3")).outcome()
    assert got == [KEY, "rotated-key", None]


def test_the_file_is_its_owners_alone_and_its_mistakes_tell_no_secret(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    assert store.path is not None
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.path.parent.stat().st_mode & 0o777 == 0o700
    assert "k3y" not in repr(store.all())
    store.path.write_text(store.path.read_text().replace("parameter", "parametre"))
    with pytest.raises(InvalidValue, match="is damaged") as damaged:
        store.all()
    assert "k3y" not in str(damaged.value)
    store.path.chmod(0o640)
    with pytest.raises(InvalidValue, match="others may use"):
        store.all()
    for wrong in ("short", "x" * 10_001):
        with pytest.raises(InvalidValue, match=r"secret: .*value") as refused:
            SecretStore().set("a", wrong, parameter="p", devices=frozenset({"d"}))
        assert wrong not in str(refused.value)


def test_secrets_are_set_listed_and_removed_at_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def run(*arguments: str, given: str = "") -> str:
        done = CliRunner().invoke(main, ["secret", *arguments], input=given)
        return f"{done.exit_code} {done.output.strip()}".strip()

    assert run("set", "linux", "--device", "dev1", given=f"{KEY}\n") == "0"
    assert run("list") == "0 linux\tapi_key\tdev1"
    assert SecretStore(tmp_path / "reason" / "secrets.json").all()["linux"].value == KEY
    assert "Missing option '--device'" in run("set", "b", given=KEY)
    assert run("remove", "linux") == "0"
    assert run("remove", "linux").endswith("secret 'linux' does not exist; see reason secret list")


@anyio_test
async def test_a_hub_that_cannot_read_its_secrets_does_not_open(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text("{")
    path.chmod(0o600)
    async with Hub() as hub:
        with pytest.raises(InvalidValue, match="is damaged"):
            UfoServer(hub, secrets=SecretStore(path))
