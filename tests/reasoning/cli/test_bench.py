"""What ``reason bench`` promises at a terminal."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from reasoning.cli import main


@pytest.mark.parametrize("domain", ["countdown", "arithmetic"])
def test_bench_prints_one_object_with_rows(domain: str) -> None:
    arms = ["--strategy", "single", "--strategy", "self-consistency:n=3"]
    done = CliRunner().invoke(
        main, ["bench", domain, "--n", "6", *arms, "--max-tokens", "128", "--json"]
    )
    assert done.exit_code == 0
    results = json.loads(done.stdout)
    assert results["schema"] == "reason.bench/1"
    single, several = results["results"]
    assert [single["strategy"], several["strategy"]] == ["single", "self-consistency:n=3"]
    for row in (single, several):
        assert row["n"] == 6
        low, high = row["ci95"]
        assert 0 <= low <= row["accuracy"] <= high <= 1
        assert row["tokens"] >= row["span"] > 0
        assert row["wall_s"] > 0
    assert single["tokens"] == single["span"]
