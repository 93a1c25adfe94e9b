"""Asking on and on takes no more memory, however different the texts are."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest

from reasoning import Reasoner
from reasoning.models.server import ServerSource
from tests.support.scripted_chat import Script, ScriptedChat

pytestmark = pytest.mark.anyio

WARM, MANY, ROUNDS = 100, 400, 3
MOST_BYTES = 64
"""That a question may leave behind; the table of text pieces left 20 times as much."""


class Varied(ScriptedChat):
    """Never says the same twice, and remembers nothing."""

    said = 0

    def next_answer(self, body: dict[str, Any]) -> Script:
        self.said += 1
        self.sessions.clear()
        words = [f"{self.said}-{place} " for place in range(20)]
        return Script(chunks=[*words, "\\boxed{42}"])


async def test_memory_is_flat_over_a_thousand_questions() -> None:
    async with Varied().running() as url:
        model = await ServerSource(base_urls=(url,)).connect()
        async with Reasoner(model) as reasoner:

            async def ask(count: int, start: int) -> int:
                for place in range(start, start + count):
                    solution = await reasoner.solve(f"Question {place}?", strategy="single")
                    assert solution.answer == "42"
                del solution
                gc.collect()
                return tracemalloc.get_traced_memory()[0]

            tracemalloc.start(1)
            try:
                held = [await ask(WARM, 0)]
                held += [await ask(MANY, WARM + MANY * number) for number in range(ROUNDS)]
            finally:
                tracemalloc.stop()
    # a table that doubles shows in one round; what a question leaves behind shows in each
    grown = min(after - before for before, after in pairwise(held))
    assert grown < MANY * MOST_BYTES
