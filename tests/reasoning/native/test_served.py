"""Native tongues on an OpenAI-compatible server that takes and gives token ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reasoning import Reasoner, Solution
from reasoning.errors import CapabilityMissing
from reasoning.language.native.catalog import family
from reasoning.language.native.dialect import NativeDialect
from reasoning.models.loaded import LoadedModel
from reasoning.models.server import ServerSource
from tests.reasoning.native import test_multiverse as multiverse
from tests.reasoning.native import test_paths as paths
from tests.reasoning.native import test_text_families as texts
from tests.reasoning.native import test_threadweaver as threadweaver
from tests.support.completions_server import Completions, served
from tests.support.native_tools import END, ScriptedModel, native_dialect, random_model
from tests.support.scripted_chat import Script, ScriptedChat

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


class PaCoReServer(ScriptedChat):
    """Answers later rounds otherwise than the first."""

    def next_answer(self, body: dict[str, Any]) -> Script:
        super().next_answer(body)
        later = "Reference 1:" in body["messages"][-1]["content"]
        said = "<think>so</think>\\boxed{5}" if later else "<think>no</think>\nA 5"
        return Script(chunks=(said[:9], said[9:]))


async def test_pacore_is_asked_in_messages_on_a_server_of_chat() -> None:
    app = PaCoReServer(models=({"id": "stepfun-ai/PaCoRe-8B"},))
    async with app.running() as url:
        loaded = await ServerSource(base_urls=(url,)).connect()
        assert loaded.dialect.recognised == "dialect: pacore (by its name)"
        app.streamed.clear()
        async with Reasoner(loaded) as reasoner:
            solution = await reasoner.solve("Why?")
    listed = "\n\n".join(f"Reference {k}:\nA 5" for k in range(1, 5))
    told = family("pacore").prompt.instruction
    again = told.replace("{question}", "Why?").replace("{references}", listed)
    said = [body["messages"] for body in app.streamed]
    assert said == [[{"role": "user", "content": text}] for text in (*["Why?"] * 4, again)]
    assert {body["temperature"] for body in app.streamed} == {1.0}
    assert (solution.strategy, solution.answer, solution.forked) == ("native", "5", True)
    assert solution.emulated == ()


TOLD = {
    "sprint": (texts.PLANNED, "Why?", texts.DONE),
    "apr": (texts.SCRIPT, texts.SUM, f"{texts.ROOT}{texts.GENERATED}{texts.TOLD}"),
}


@pytest.mark.parametrize("name", TOLD)
async def test_what_goes_on_with_its_own_text_runs_on_text(tmp_path: Path, name: str) -> None:
    script, asked, last = TOLD[name]
    app = _bare(tmp_path, name, script)
    async with served(app) as port:
        urls = (f"http://127.0.0.1:{port}",)
        loaded = await ServerSource(base_urls=urls, dialect=name).connect()
        before = len(app.prompts)
        async with Reasoner(loaded) as reasoner:
            solution = await reasoner.solve(asked, temperature=0.0)
    assert app.prompts[before].endswith("<think>\n" if name == "sprint" else texts.ROOT)
    assert app.prompts[-1].endswith(last)
    assert len(app.prompts) == before + 4
    assert solution.answer == ("9" if name == "sprint" else "21-3=18, 23-18=5, 10*5=50")
    assert (solution.strategy, solution.emulated) == ("native", ())


@pytest.mark.parametrize(
    ("dialect", "mode", "why"),
    [
        ("npr", "text", "npr is spoken in token ids, and http"),
        ("pacore", "text", "pacore is asked in messages, and http"),
        ("sprint", "chat", "sprint goes on with its own text (--engine mode=text), and http"),
        ("apr", "chat", "apr goes on with its own text (--engine mode=text), and http"),
        ("ssft", "chat", "ssft is spoken in token ids, and http"),
    ],
)
async def test_what_a_server_can_not_carry_is_refused_by_name(
    tmp_path: Path, dialect: str, mode: str, why: str
) -> None:
    app = ScriptedChat() if mode == "chat" else _bare(tmp_path, "npr", {"": f"?{END}"})
    async with served(app) as port:
        source = ServerSource(base_urls=(f"http://127.0.0.1:{port}",), dialect=dialect, mode=mode)
        with pytest.raises(CapabilityMissing) as refusal:
            await source.connect()
    assert str(refusal.value).startswith(f"dialect: {why}")
    assert "--dialect none" in str(refusal.value)


def _bare(folder: Path, name: str, script: Mapping[str, str]) -> Completions:
    """A server that takes and gives nothing but text."""
    dialect = native_dialect(folder, name)
    backend = ScriptedModel(dialect, script)
    model = LoadedModel(name="scripted", dialect=dialect, context=4096, backend=backend)
    return Completions(backend, model, bare=True)
