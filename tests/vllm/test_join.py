"""Joins in a stock vLLM: keys and values of finished requests, copied in front of a new one."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from reasoning.values.context import Context, Segment

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
pytestmark = pytest.mark.filterwarnings("default")


def prompt(length: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(3, 256) for _ in range(length)]


def joined(author: Any, lengths: list[int], prefix: int, count: int = 40) -> list[Segment]:
    """Branches of given lengths from one prefix, and a conclusion that sees all of them."""
    base = Context.given(prompt(prefix))
    branches = [Segment(base, [10 + index]) for index in range(len(lengths))]
    ids = [author.start(branch, length) for branch, length in zip(branches, lengths, strict=True)]
    author.driver.run(*ids)
    for branch, id in zip(branches, ids, strict=True):
        author.end(branch, id)
    conclusion = Segment(base.join([base.after(branch) for branch in branches]), [9])
    author.write([conclusion], count)
    segments = [base.entries[0].segment, *branches, conclusion]
    author.steps(segments)
    return segments


@pytest.mark.parametrize("name", ["llama", "qwen3-gqa", "qwen2-gqa", "shipped"])
def test_a_join_equals_a_flat_forward_pass(
    start: Callable[..., Any], reference: Callable[[str], Any], name: str
) -> None:
    author = start(name, "join")
    for lengths, prefix in ([20, 33], 45), ([40, 5, 64], 64), ([7, 19, 30, 3], 10):
        segments = joined(author, lengths, prefix)
        count, worst = author.compare(reference(name), segments)
        assert count == sum(lengths) + 40
        assert worst < 1e-4
