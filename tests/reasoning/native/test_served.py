"""Native tongues on an OpenAI-compatible server that takes and gives token ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from reasoning import Reasoner, Solution
from reasoning.errors import CapabilityMissing
from reasoning.language.native.catalog import family
from reasoning.language.native.dialect import NativeDialect
from reasoning.models.loaded import LoadedModel
from reasoning.models.server import ServerSource
from tests.reasoning.native import test_multiverse as multiverse
from tests.reasoning.native import test_paths as paths
from tests.reasoning.native import test_threadweaver as threadweaver
from tests.support.completions_server import Completions, served
from tests.support.native_tools import END, ScriptedModel, native_dialect, random_model

pytestmark = pytest.mark.anyio

SCRIPTS = {
    "threadweaver": threadweaver.SCRIPT,
    "multiverse": multiverse.SCRIPT,
    "parallel-r1-unseen": paths.R1,
    "ssft": {f"<think{i}>": f"so \\boxed{{7}}{END}" for i in range(1, 7)},
}
LAST = {
    "threadweaver": f"{threadweaver.PLAN}{threadweaver.JOINED}",
    "multiverse": multiverse.JOINED.removeprefix(multiverse.PROMPT),
    "parallel-r1-unseen": f"{paths.TEXT}{paths.BLOCK}{paths.SHORT}",
}
"""What the last request has behind the prompt."""


async def solved(folder: Path, name: str) -> tuple[Solution, list[list[int]]]:
    """A run over HTTP, and the prompts that the server was sent."""
    dialect = NativeDialect(folder, frozenset(), family(name))
    backend = ScriptedModel(dialect, {"": f"?{END}", **SCRIPTS[name]})
    model = LoadedModel(name="scripted", dialect=dialect, context=4096, backend=backend)
    app = Completions(backend, model, refuse=("priority", "structured_outputs", "echo"))
    async with served(app) as port:
        source = ServerSource(
            base_urls=(f"http://127.0.0.1:{port}",), tokenizer=str(folder), mode="tokens"
        )
        loaded = await source.connect()
        before = len(app.prompts)
        async with Reasoner(loaded) as reasoner:
            solution = await reasoner.solve("Why?", temperature=0.0, max_tokens=900)
        return solution, app.prompts[before:]


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_server_of_tokens_is_asked_in_ids(tmp_path: Path, name: str) -> None:
    folder = random_model(tmp_path, name)
    solution, prompts = await solved(folder, name)
    dialect = NativeDialect(folder, frozenset(), family(name))
    if name in LAST:
        assert prompts[-1] == [*dialect.ask("Why?").tokens, *dialect.encode(LAST[name])]
    assert solution.forked is True
    assert solution.answer in ("3", "12", "7")
    assert solution.emulated == (("text-join",) if name == "multiverse" else ())


async def test_a_server_of_text_is_told_that_it_can_not(tmp_path: Path) -> None:
    async with served(_bare(tmp_path)) as port:
        source = ServerSource(base_urls=(f"http://127.0.0.1:{port}",), dialect="npr")
        with pytest.raises(CapabilityMissing, match="dialect: npr is spoken in token ids"):
            await source.connect()


def _bare(folder: Path) -> Completions:
    dialect = native_dialect(folder, "npr")
    backend = ScriptedModel(dialect, {"": f"?{END}"})
    model = LoadedModel(name="scripted", dialect=dialect, context=4096, backend=backend)
    return Completions(backend, model, bare=True)
