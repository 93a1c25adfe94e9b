"""The plugin with torch.compile on: gangs, paths and ordinary requests in one batch."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from reasoning.values.context import Context, Segment

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow]

MODEL = "qwen2-gqa+published"
STEPS = 96


def prompt(length: int) -> list[int]:
    rng = random.Random(length)
    return [rng.randrange(3, 256) for _ in range(length)]


def test_all_requests_equal_a_flat_forward_pass_in_compiled_graphs(
    start: Callable[..., Any], reference: Callable[[str], Any]
) -> None:
    from torch._dynamo.utils import counters

    counters.clear()
    author = start(MODEL, "live", enforce_eager=False, max_model_len=1024, max_num_seqs=16)
    assert counters["stats"]["unique_graphs"] == counters["aot_autograd"]["ok"] == 1
    assert not counters["graph_break"]
    head = Segment(Context(), prompt(45))
    live = [Segment(Context.flow([head]), [60 + index, 7]) for index in range(3)]
    for own in live:
        own.views = [(0, Context.flow([head, *(one for one in live if one is not own)]))]
    base = Context.given(prompt(50))
    paths = [Segment(base, [10 + number, 7], path=number) for number in (1, 2, 3)]
    text = Segment(Context(), prompt(60))
    ids = author.gang(live, [STEPS] * 3) + author.gang(paths, [STEPS] * 3)
    ids.append(author.start(text, STEPS))
    author.driver.run(*ids)
    for own, id in zip([*live, *paths, text], ids, strict=True):
        author.end(own, id)
    summary = Segment(base.join([base.after(path) for path in paths]), [9])
    author.write([summary], STEPS)
    author.steps([head])
    author.in_step(live, [2] * 3)
    author.steps([base.entries[0].segment, *paths, summary, text])
    for segments in [head, *live], [base.entries[0].segment, *paths, summary], [text]:
        count, worst = author.compare(reference(MODEL), segments)
        written = sum(one is not head for one in segments) - (summary in segments)
        assert count == STEPS * written
        assert worst < 1e-4
