"""Runs that are kept beside a server, which waits for none and fails for none."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event

import httpx
import pytest
from click.testing import CliRunner

from reasoning import Solution, solve_sync
from reasoning.cli import main
from reasoning.models.loaded import LoadedModel
from reasoning.runs.keeper import MOST_WAITING, RunKeeper
from reasoning.runs.record import RecordedRun
from reasoning.runs.store import RunStore
from tests.support.serving_tools import serving


@pytest.fixture(scope="module")
def solution(shipped: LoadedModel) -> Solution:
    return solve_sync("Compute 2 + 3", model=shipped)


def test_what_waits_is_written_at_the_end(solution: Solution, tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs.db")
    keeper = RunKeeper(store, command="serve")
    for seed in range(3):
        keeper.keep(solution, {"seed": seed})
    keeper.close()
    assert {store.find(line.id).settings["seed"] for line in store.lines()} == {0, 1, 2}
    assert keeper.lost == 0


def test_nobody_waits_where_too_many_end_at_once(
    solution: Solution, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slow = Event()

    class Slow(RunStore):
        def add(self, run: RecordedRun) -> None:
            slow.wait()
            super().add(run)

    keeper = RunKeeper(Slow(tmp_path / "runs.db"), command="serve")
    for _ in range(MOST_WAITING + 5):
        keeper.keep(solution, {})
    slow.set()
    keeper.close()
    assert keeper.lost == 5
    assert len(RunStore(tmp_path / "runs.db").lines()) == MOST_WAITING
    assert caplog.text.count("not kept") == 1


def test_a_store_that_fails_costs_no_answer(
    solution: Solution, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    keeper = RunKeeper(RunStore(tmp_path / "file" / "runs.db"), command="serve")
    keeper.keep(solution, {})
    keeper.close()
    assert keeper.lost == 1
    assert "can't be used" in caplog.text


def test_a_server_keeps_its_runs_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    question = {"role": "user", "content": "Compute (17*3+5)*4-12"}
    request = {"model": "reason-5m/self-consistency", "messages": [question], "seed": 7}
    with serving("--keep") as server:
        done = httpx.post(f"{server.url}/v1/chat/completions", json=request, timeout=60)
        assert done.status_code == 200
    (found,) = json.loads(CliRunner().invoke(main, ["runs", "--json"]).stdout)
    assert (found["command"], found["answer"]) == ("serve", "212")
    shown = CliRunner().invoke(main, ["runs", "show"]).stdout
    assert "settings: model=reason-5m/self-consistency, seed=7" in shown
