"""Stop texts are found wherever tokens are cut; endless repetition is noticed, and nothing else."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasoning import Reasoner, Solution, load_model
from reasoning.backends.text import TextBackend
from reasoning.run.text_ends import RunawayRepetition, StopTexts
from reasoning.values.sampling import Sampling

WORDS = [
    "sum",
    "of",
    "all",
    "parts",
    "is",
    "taken",
    "once",
    "more",
    "then",
    "we",
    "look",
    "at",
    "it",
]


def noticed(pieces: list[str]) -> int | None:
    """After how many characters a growing text is noticed."""
    check, text = RunawayRepetition(), ""
    for piece in pieces:
        text += piece
        if check.met(text):
            return len(text)
    return None


@pytest.mark.parametrize("period", ["0, ", "a", " ".join(WORDS), "Wait.\n\n", "ab" * 200 + "c"])
@pytest.mark.parametrize("size", [1, 7, 90])
def test_any_period_is_noticed_soon(period: str, size: int) -> None:
    before = " ".join(random.Random(1).choices(WORDS, k=300))
    text = before + period * (9_000 // len(period))
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    found = noticed(pieces)
    assert found is not None
    assert found - len(before) <= max(1_200, 5 * len(period)) + 64 + 2 * size + len(period)


@pytest.mark.parametrize(
    "text",
    [
        " ".join(random.Random(2).choices(WORDS, k=4_000)),
        "".join(f"{n}: the same line again\n" for n in range(800)),
        "".join(f"| row | {n % 97:02} | {n % 89:02} |\n" for n in range(600)),
        "\n".join(["x = 0"] * 150 + ["y = 1"] * 150) * 2,
        "-" * 1_100 + "\n" + "=" * 1_100,
    ],
)
def test_what_differs_a_little_is_no_repetition(text: str) -> None:
    assert noticed([text[at : at + 5] for at in range(0, len(text), 5)]) is None


class Parrot(TextBackend):
    """Says the same thing for ever, after an answer or none."""

    name = "parrot"

    def __init__(self, first: str) -> None:
        super().__init__(context=3_000)
        self.first = first

    async def write(
        self, messages: list[dict[str, Any]], sampling: Sampling, *, most: int
    ) -> AsyncIterator[str]:
        yield self.first
        while True:
            yield "Let me see once more. "


async def solved(first: str, **options: Any) -> Solution:
    async with Reasoner(load_model(backend=Parrot(first))) as reasoner:
        return await reasoner.solve("What is it?", strategy="single", **options)


@pytest.mark.anyio
async def test_a_thread_that_repeats_itself_ends_and_says_so() -> None:
    solution = await solved("Hm. ")
    assert (solution.answer, solution.threads[0].ending) == (None, "repeats")
    assert solution.threads[0].tokens < 100
    assert solution.to_dict()["threads"][0]["ending"] == "repeats"
    assert (await solved("It is \\boxed{42}. ")).answer == "42"  # which stands complete
    allowed = await solved("Hm. ", allow_repetition=True)
    assert allowed.threads[0].ending == "context"
    bounded = await solved("Hm. ", max_new_tokens=20)
    assert (bounded.threads[0].ending, bounded.threads[0].tokens) == ("max-new-tokens", 20)


words = st.text(alphabet="ab\n", max_size=6)


@given(pieces=st.lists(words, max_size=12), stops=st.lists(words.filter(bool), max_size=3))
def test_however_a_text_is_cut_it_ends_before_the_first_stop_text(
    pieces: list[str], stops: list[str]
) -> None:
    seen, shown = StopTexts(stops), ""
    text = "".join(pieces)
    places = [text.find(stop) for stop in stops if stop in text]
    for piece in pieces:
        shown += seen.feed(piece)
        assert text.startswith(shown)
    assert shown + seen.end() == (text[: min(places)] if places else text)
    assert (seen.found is not None) == bool(places)
