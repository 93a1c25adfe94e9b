"""What the doctor says of a strategy is what `solve` does, on servers of each kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from orchestrator.errors import InvalidValue
from reasoning import Reasoner, Solution
from reasoning.cli.diagnosis import diagnose
from reasoning.errors import CapabilityMissing, ProblemRefused
from reasoning.models.loaded import LoadedModel
from reasoning.models.server import ServerSource
from reasoning.strategies import BUILT_IN
from tests.support.completions_server import Completions, served
from tests.support.scripted_chat import Script, ScriptedChat

pytestmark = pytest.mark.anyio

PLAN = "1: add the numbers\n2: check the sum\n\n"
KINDS = {"chat": "chat", "chat that goes on": "chat", "token ids": "tokens", "text": "text"}
ASKED_ANEW = {"without-openings", "asked-anew"}
NAMED = {one for kind in BUILT_IN for one in kind.emulates.values()}


@asynccontextmanager
async def server(kind: str, shipped: LoadedModel) -> AsyncIterator[str]:
    if kind.startswith("chat"):
        script = Script(chunks=[PLAN, "so \\boxed{42}"], usage={"completion_tokens": 60})
        async with ScriptedChat(answers=[script], continues=kind != "chat").running() as url:
            yield url
    else:
        async with (
            shipped.backend as engine,
            served(Completions(engine, shipped, bare=kind == "text")) as port,
        ):
            yield f"http://127.0.0.1:{port}"


async def solved(model: LoadedModel, strategy: str) -> Solution | None:
    """Its solution; None where the model lacks something."""
    async with Reasoner(model) as reasoner:
        try:
            return await reasoner.solve(
                "Use 3, 10, 21 and 23 to make 50", strategy=strategy, max_tokens=256
            )
        except (CapabilityMissing, InvalidValue):
            return None


@pytest.mark.parametrize("kind", KINDS)
async def test_solve_does_what_the_doctor_says(kind: str, shipped: LoadedModel) -> None:
    async with server(kind, shipped) as url:
        source = ServerSource(base_urls=(url,))
        report = await diagnose(source)
        model = await source.connect()
        assert (model.backend.mode, report.mode) == (KINDS[kind], KINDS[kind])
        assert report.capabilities == tuple(sorted(model.capabilities))
        for said in report.strategies:
            try:
                solution = await solved(model, said.strategy)
            except ProblemRefused:  # the shipped model was not taught to do this so
                assert said.runs
                continue
            assert said.runs is (solution is not None), said
            if solution is not None:
                assert set(solution.emulated) & NAMED <= set(said.emulations), said
                assert not any("can't go on" in error for error in solution.errors), said


async def test_what_a_chat_can_not_go_on_with_is_said_before_it_is_asked() -> None:
    for continues in (False, True):
        async with ScriptedChat(continues=continues).running() as url:
            report = await diagnose(ServerSource(base_urls=(url,)))
        said = {one.strategy: one for one in report.strategies}
        for name in ("parathinker", "hogwild", "group-think"):
            assert said[name].runs
            assert bool(ASKED_ANEW & set(said[name].emulations)) is not continues
        assert said["apr"].lacks == ("spawn-join",)
        assert ("--draft" in said["atts"].word) is continues
