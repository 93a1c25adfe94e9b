"""The trial at an engine's start, and the check of each step, stop what leaves something out."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import InvalidValue
from reasoning.values.context import Context, Segment
from reasoning.vllm_plugin import engine_arguments

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
pytestmark = pytest.mark.filterwarnings("default")

MODEL = "qwen2-gqa"


@pytest.fixture
def author(start: Callable[..., Any]) -> Iterator[Any]:
    author = start(MODEL, "live")
    yield author
    author.driver.engine.reset_prefix_cache()  # the trial writes to blocks of its own choice


@pytest.fixture
def runner(author: Any) -> Any:
    worker = author.driver.engine.engine_core.engine_core.model_executor.driver_worker
    return getattr(worker, "worker", worker).model_runner


def test_the_trial_is_exact_and_leaves_nothing_behind(author: Any, runner: Any) -> None:
    from reasoning.vllm_plugin.checks.self_test import SelfTest

    assert SelfTest(runner).run() < 1e-4
    author.driver.engine.reset_prefix_cache()
    text = Segment(Context(), [random.Random(5).randrange(3, 256) for _ in range(40)])
    author.write([text], 8)
    assert len(text) == 48
    assert not [id for id in runner.requests if id.startswith("reason-self-test")]


def unmoved(monkeypatch: pytest.MonkeyPatch) -> None:
    from reasoning.vllm_plugin.runners.hooks import StepHooks

    monkeypatch.setattr(StepHooks, "move", lambda self, *args: None)


def unmoved_but_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    from reasoning.vllm_plugin.runners.hooks import StepHooks

    def move(self: Any, *args: Any) -> None:
        if self._plan is not None:
            self._plan.moved |= self._plan.offsets.keys()

    monkeypatch.setattr(StepHooks, "move", move)


def unattached(monkeypatch: pytest.MonkeyPatch) -> None:
    from reasoning.vllm_plugin.runners.hooks import StepHooks

    monkeypatch.setattr(StepHooks, "attach", lambda self, *args: None)


def passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    from reasoning.vllm_plugin.attention.patches import PatchedMethod

    def turn(self: Any, on: bool) -> None:
        self.calls = 0
        if self._method != "forward" or len(self._layers) == 1:
            stock(self, on)

    stock = PatchedMethod.turn
    from reasoning.vllm_plugin.runners.hooks import StepHooks

    attach = StepHooks.attach

    def captured(self: Any, *args: Any) -> None:
        monkeypatch.setattr(PatchedMethod, "turn", turn)
        attach(self, *args)
        monkeypatch.setattr(PatchedMethod, "turn", stock)

    monkeypatch.setattr(StepHooks, "attach", captured)


def unturned(monkeypatch: pytest.MonkeyPatch) -> None:
    from reasoning.vllm_plugin.attention.tables import AttentionTables

    tables = AttentionTables.of

    def of(*args: Any) -> AttentionTables:
        found = tables(*args)
        found.parts[:, 3] = 0
        return found

    monkeypatch.setattr(AttentionTables, "of", of)


def uncopied(monkeypatch: pytest.MonkeyPatch) -> None:
    from reasoning.vllm_plugin.attention.cache import Cache

    monkeypatch.setattr(Cache, "copy", lambda self, *args: None)


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "positions were not moved": unmoved,
    "attention saw no other segments": unattached,
    "passed by": passed_by,
    "differs": unmoved_but_noted,
    "differs by": unturned,
    "the self-test differs": uncopied,
}


@pytest.mark.parametrize("why", FAULTS)
def test_control_the_trial_finds_what_is_left_out(
    runner: Any, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    from reasoning.vllm_plugin.checks.self_test import try_runner

    for layer in runner.vllm_config.compilation_config.static_forward_context.values():
        layer.kv_cache.zero_()  # an earlier trial's keys and values would be right
    FAULTS[why](monkeypatch)
    with pytest.raises(InvalidValue, match=why):
        try_runner(runner)
    monkeypatch.undo()
    runner.execute_model_state = None
    runner.hooks.begin(None)
    runner.hooks.attach({}, {}, [0], runner.positions)  # as a step without requests of ours
    try_runner(runner)


@pytest.mark.parametrize("tried", [True, False], ids=["at the start", "in the first step"])
def test_control_an_engine_without_its_hooks_stops(
    model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tried: bool
) -> None:
    from reasoning.vllm_plugin.client import SegmentClient
    from tests.vllm.conftest import Author, Driver

    unmoved(monkeypatch)
    wanted = engine_arguments("join", self_test=tried)
    if tried:
        with pytest.raises(InvalidValue, match="self-test failed: vllm plugin: positions were not"):
            Driver(model(MODEL), wanted)
        return
    driver = Driver(model(MODEL), wanted)
    author = Author(driver, SegmentClient("join"))
    base = Context.given(range(3, 40))
    branches = [Segment(base, [10 + index]) for index in range(2)]
    author.write(branches, 8)
    conclusion = Segment(base.join([base.after(branch) for branch in branches]), [9])
    with pytest.raises(InvalidValue, match="positions were not moved for 1 of 1"):
        author.write([conclusion], 4)
    driver.close()
