"""Gangs in a stock vLLM: concurrent requests that see each other's tokens as they are written."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from reasoning.values.context import Context, Placed, Segment
from reasoning.vllm_plugin.note import AttentionView

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
pytestmark = pytest.mark.filterwarnings("default")

STEPS = 96


def prompt(length: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(3, 256) for _ in range(length)]


def thinkers(count: int, lag: int, length: int = 45, slot: int = 200) -> list[Segment]:
    """Group Think: each in a slot of positions of its own, behind a common prompt."""
    base = Context.given(prompt(length, length))
    slots = [
        Segment(Context(entries=base.entries, position=length + slot * index), [50 + index])
        for index in range(count)
    ]
    for own in slots:
        others = [one for one in slots if one is not own]
        own.views = [(0, own.context.seeing(*others, lag=lag))]
    return [base.entries[0].segment, *slots]


def workers(count: int, lag: int, length: int = 45) -> list[Segment]:
    """Hogwild!: each sees the prompt, then the others, then itself."""
    head = Segment(Context(), prompt(length, length + 1))
    live = [Segment(Context.flow([head]), [60 + index, 7]) for index in range(count)]
    for own in live:
        entries = [Placed(one, lag=lag) for one in live if one is not own]
        flow = Context(entries=(Placed(head), *entries), position=own.home, flowing=True)
        own.views = [(0, flow)]
    return [head, *live]


KINDS: dict[str, Callable[..., list[Segment]]] = {"group-think": thinkers, "hogwild": workers}


def compared(
    author: Any, reference: Any, segments: Sequence[Segment], counts: Sequence[int], name: str
) -> tuple[int, float]:
    """Run a gang to its end and compare it with the flat forward pass."""
    head, *live = segments
    given = [len(one) for one in live]
    ids = author.gang(live, counts, name)
    for segment, written in zip(live, author.driver.run(*ids), strict=True):
        assert written.finish == "length", written
        author.end(segment, ids[live.index(segment)])
    author.steps([head])
    author.in_step(live, given)
    return author.compare(reference, segments)


@pytest.fixture
def author(start: Callable[..., Any]) -> Any:
    return start("qwen2-gqa", "live")


@pytest.fixture
def flat(reference: Callable[[str], Any]) -> Any:
    return reference("qwen2-gqa")


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gang_equals_a_flat_forward_pass(
    author: Any, flat: Any, kind: str, count: int, lag: int
) -> None:
    segments = KINDS[kind](count, lag)
    equal, worst = compared(author, flat, segments, [STEPS] * count, f"{kind}{count}{lag}")
    assert equal == STEPS * count
    assert worst < 1e-4


def test_the_tokens_of_others_are_seen_and_turned(
    author: Any, flat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AttentionView, "turns", lambda self, limits, homes: [0] * len(limits))
    equal, _ = compared(author, flat, workers(2, 0, 46), [STEPS] * 2, "unturned")
    assert equal < 0
    equal, worst = compared(author, flat, thinkers(2, 0, 46), [STEPS] * 2, "needs no turn")
    assert equal == STEPS * 2
    assert worst < 1e-4
