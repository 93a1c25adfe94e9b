"""The shipped native model on vLLM: keys and values are joined, or text is read again."""

from __future__ import annotations

import pytest

from reasoning import Reasoner, Solution, load_model
from reasoning.models.loaded import LoadedModel

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("default"), pytest.mark.slow]

QUESTION = "A=31+6-2+8. B=54-5+7+9. C=67+6-3-4. D=23+9+2-6. Which is the largest?"
SETTINGS = "vllm:dtype=float32,kv_cache_gib=1"


async def solved(model: LoadedModel) -> Solution:
    async with Reasoner(model) as reasoner:
        return await reasoner.solve(QUESTION, temperature=0.0, max_tokens=1024)


@pytest.mark.parametrize(
    ("family", "backend"),
    [("multiverse", f"{SETTINGS},plugin=join"), ("threadweaver", SETTINGS)],
)
async def test_it_forks_on_vllm_as_in_the_embedded_engine(family: str, backend: str) -> None:
    here = await solved(load_model("native-2m", settings=[f"dialect={family}"]))
    there = await solved(load_model("native-2m", backend=backend, settings=[f"dialect={family}"]))
    assert there.forked
    assert there.emulated == here.emulated
    assert [one.text for one in there.threads] == [one.text for one in here.threads]
    assert there.answer == here.answer
