"""The shipped native model forks and joins by itself, on the embedded engine, in both formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from reasoning.models.catalog import find
from reasoning.models.embedded import EmbeddedSource
from reasoning.models.loading import is_trained
from reasoning.run.solution import Solution
from reasoning.solver import Reasoner
from reasoning.training.native.formats import prompt
from reasoning.training.native.tokens import encode

APART = "A=31+6-2+8. B=54-5+7+9. C=67+6-3-4. D=23+9+2-6. Which is the largest?"
SERIAL = "Start with 31, add 6, take 8, add 6, add 9. What is left?"
FAMILIES = pytest.mark.parametrize("family", ["threadweaver", "multiverse"])


async def solved(family: str, question: str) -> Solution:
    model = EmbeddedSource(dialect=family).load("native-2m")
    async with Reasoner(model) as reasoner:
        return await reasoner.solve(question, temperature=0.0, max_tokens=1024)


@pytest.mark.anyio
@FAMILIES
async def test_it_forks_where_parts_are_independent(family: str) -> None:
    solution = await solved(family, APART)
    assert solution.forked
    assert solution.refusals == ()
    assert solution.join_skipped is None
    assert len(solution.threads) == 5  # the trunk and four branches
    assert solution.parallel is not None
    assert solution.parallel.longest_thread < 0.75 * solution.parallel.tokens


@pytest.mark.anyio
@FAMILIES
async def test_it_stays_serial_where_each_step_needs_the_one_before(family: str) -> None:
    solution = await solved(family, SERIAL)
    assert solution.forked is False
    assert solution.answer is not None


@pytest.mark.anyio
@FAMILIES
async def test_it_is_prompted_as_it_was_trained(family: str) -> None:
    dialect = EmbeddedSource(dialect=family).load("native-2m").dialect
    assert list(dialect.ask(APART).tokens) == encode(prompt(APART, family))


def test_it_is_asked_any_question_in_words() -> None:
    assert not is_trained("native-2m")
    assert is_trained("reason-5m")


def test_it_is_small_and_an_ordinary_folder() -> None:
    folder = find("native-2m")
    assert sum(path.stat().st_size for path in Path(folder).iterdir()) < 12_000_000
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    asked = [{"role": "user", "content": "1+2"}]
    rendered = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert rendered == "<|im_start|>user\n1+2<|im_end|>\n<|im_start|>assistant\n"
