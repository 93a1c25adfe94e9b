"""What the task graph promises of its speed, against the committed measurement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS: dict[str, Any] = json.loads((ROOT / "benchmarks/results/graph.json").read_text())
RATIOS = {
    (row["engine"].partition(" ")[0], row["shape"]): row["ratio"] for row in RESULTS["overhead"]
}
JOURNALED = {
    row["shape"]: row["ratio"] for row in RESULTS["overhead"] if "journal" in row["engine"]
}
OURS = {shape: RATIOS["orchestrator", shape] for shape in JOURNALED}


def test_a_task_costs_at_most_four_plain_ones_and_nine_with_journal() -> None:
    assert OURS.keys() == JOURNALED.keys() == {"layered", "fan"}
    assert max(OURS.values()) <= 4
    assert max(JOURNALED.values()) <= 9


def test_every_peer_was_measured_in_the_same_run() -> None:
    engines = {engine for engine, _ in RATIOS}
    assert {"langgraph", "pydantic-graph", "dask", "ray", "prefect"} <= engines


def test_the_cost_of_a_task_is_flat_up_to_100_000() -> None:
    scale = {row["tasks"]: row for row in RESULTS["scale"]}
    costs = [row["us_per_task"] for row in scale.values()]
    assert scale.keys() == {1_000, 10_000, 100_000}
    assert max(costs) <= 1.5 * min(costs)
    largest = scale[100_000]
    assert largest["seconds"] < 10
    assert largest["peak_mib"] < 1024
    assert largest["patch_ms"] < 1


def test_a_ready_task_starts_within_10_ms_while_an_editor_thinks() -> None:
    late = {row["others"]: row["late_ms"] for row in RESULTS["editing"]}
    assert late.keys() == {10, 20}
    assert max(late.values()) < 10


def test_200_kills_lost_nothing_and_repeated_nothing_that_was_committed() -> None:
    found = json.loads((ROOT / "benchmarks/results/kills.json").read_text())
    assert found["kills"] >= 200
    assert found["runs"] > 1
    assert found["problems"] == []
