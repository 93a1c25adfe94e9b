"""Both of vLLM's model runners, in process and served: joins, gangs and paths beside plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reasoning.vllm_plugin import engine_arguments
from reasoning.vllm_plugin.client import SegmentClient
from tests.vllm.comparison import (
    KINDS,
    TINY,
    Runner,
    ServedDriver,
    compare,
    environment,
    give_tokenizer,
    serving,
)
from tests.vllm.conftest import Author, Driver

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow]

MODEL = "qwen2-gqa+published"
runners = pytest.mark.parametrize("runner", [1, 2])


@pytest.fixture
def processes(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let engines that are started have this model runner."""
    for name, value in environment(runner).items():
        monkeypatch.setenv(name, value)
    if runner == 2:  # which this process need not have; its child has an interpreted one
        monkeypatch.setattr("vllm.config.vllm.HAS_TRITON", True)


@pytest.fixture
def driver(model: Callable[[str], Path], processes: None) -> Iterator[Driver]:
    driver = Driver(model(MODEL), engine_arguments("live") | TINY)
    yield driver
    driver.close()


@runners
def test_all_kinds_in_one_batch_equal_a_flat_forward_pass(
    driver: Driver, reference: Callable[[str], Any]
) -> None:
    found = compare(Author(driver, SegmentClient("live")), reference(MODEL))
    assert {kind: one.exact for kind, one in found.items()} == dict.fromkeys(KINDS, True), found


@pytest.mark.parametrize("runner", [2])  # of the first, test_serving.py has more
def test_all_kinds_in_one_batch_are_exact_over_http(
    runner: Runner,
    model: Callable[[str], Path],
    reference: Callable[[str], Any],
    tmp_path: Path,
) -> None:
    give_tokenizer(model(MODEL))
    with serving(model(MODEL), tmp_path / "log", runner) as url:
        found = compare(Author(ServedDriver(url), SegmentClient("live")), reference(MODEL))
    assert {kind: one.exact for kind, one in found.items()} == dict.fromkeys(KINDS, True), found
