"""Whatever a model writes in its tongue, its run ends by a name, within its bounds, and adds up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import get_args

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator import Event
from reasoning import Reasoner, Solution
from reasoning.language.native.catalog import FAMILIES, family
from reasoning.language.native.dialect import NativeDialect
from reasoning.models.loaded import LoadedModel
from reasoning.options import SolveOptions
from reasoning.problems import Countdown
from reasoning.run.run import ForkRefused
from reasoning.run.solution import Ending
from reasoning.strategies.tongues.speaker import MOST_THREADS
from tests.support.native_tools import END, ScriptedModel, native_dialect

DEPTH, WIDTH, ROUNDS, CRITICAL, CONTEXT = 3, 4, 3, 150, 700
PLAN_OF = {
    "threadweaver": "<Outlines><Outline>1: a</Outline><Outline>1.2: b</Outline></Outlines>",
    "multiverse": "<Goal><Outline>1: a</Outline><Outline>2: b</Outline></Goal>",
    "npr": "<guideline><plan>1: a</plan><plan>2: b</plan></guideline>",
    "sprint": "<Plan_1><prompt_1.1>a</prompt_1.1><prompt_1.2>b</prompt_1.2></Plan_",
    "apr": "\nGenerated Node #0,0: 9:[1, 2] Operation: 4-3=1\n<Calling Sub Searches>\n"
    "<Start Sub Search 0 at level 1> Moving to Node #0,0\n<End Calling Sub Searches>",
}
"""One fork as each family writes it, so that streams fork often."""
PIECES = {
    "apr": ("<Sub Searches>", "<End Sub Searches>", "Goal Reached", "#0,7", "9:[1]"),
    "sprint": ("<Plan_", "</Plan_", "</Execution_", "<Final_answer>", "</Final_answer>"),
    "pacore": ("<think>", "</think>"),
}
TEXT = ("a", "\n", "7", "1: ", ". ", "\\boxed{7}", "Final Answer: 7\n", "é", END)


@cache
def dialect_of(name: str) -> NativeDialect:
    return native_dialect(Path(mkdtemp()), name)


def streams(name: str) -> st.SearchStrategy[list[list[str]]]:
    """What a model writes, request after request; then it begins anew."""
    controls = [control.text for control in family(name).controls]
    known = [PLAN_OF.get(name, "a"), *controls, *PIECES.get(name, ())]
    piece = st.one_of(st.sampled_from(known), st.sampled_from(TEXT))
    return st.lists(st.lists(piece, min_size=1, max_size=6), min_size=1, max_size=5)


class Stream(ScriptedModel):
    """Writes the next of some streams, whatever it is asked."""

    def __init__(self, dialect: NativeDialect, streams: Sequence[Sequence[str]], *can: str) -> None:
        super().__init__(dialect, {}, *can)  # type: ignore[arg-type]
        self._streams, self._next = streams, 0

    def reply(self, prompt: list[int]) -> list[int]:
        self._next += 1
        return self.dialect.encode("".join(self._streams[self._next % len(self._streams)]))


async def solved(model: Stream, events: list[Event]) -> Solution:
    loaded = LoadedModel(name="m", dialect=model.dialect, context=CONTEXT, backend=model)
    asked = (
        "Why?"
        if model.dialect.format.prompt.domain == ""
        else Countdown(numbers=(1, 2, 3, 4), target=9)
    )
    strategy = f"native:depth={DEPTH},n={WIDTH},rounds={ROUNDS},critical={CRITICAL}"
    async with Reasoner(loaded) as reasoner:
        how = SolveOptions(strategy=strategy, temperature=0.0, listener=events.append)
        with anyio.fail_after(300):
            return await reasoner.solve_with(asked, how)


@pytest.mark.parametrize("can", ["kv-join", ""])
@pytest.mark.parametrize("name", FAMILIES)
def test_any_stream_ends_by_a_name_and_adds_up(name: str, can: str) -> None:
    if can and family(name).function:
        pytest.skip("it never joins keys and values")

    @settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
    @given(streams=streams(name))
    def check(streams: list[list[str]]) -> None:
        model, events = Stream(dialect_of(name), streams, *[can] * bool(can)), list[Event]()
        found = anyio.run(solved, model, events)
        assert found.status == "finished"
        assert model.open_threads == 0
        assert {one.state for one in found.threads} <= {"succeeded", "cancelled"}
        assert {one.ending for one in found.threads} <= set(get_args(Ending))
        assert len(found.threads) <= MOST_THREADS
        assert max(one.id.count(".") for one in found.threads) <= min(
            DEPTH, family(name).fork.depth
        )
        told = [e.reason for e in events if isinstance(e, ForkRefused)]
        assert [one.partition(": ")[2] for one in found.refusals] == told
        assert_adds_up(found)

    check()


def assert_adds_up(found: Solution) -> None:
    counted, usage = found.parallel, found.usage
    assert counted is not None
    assert counted.written == sum(one.tokens for one in found.threads)
    assert counted.written + usage.leaked_tokens == usage.completion_tokens
    assert 0 <= counted.critical_path <= counted.written
    assert counted.critical_path <= CRITICAL
    assert counted.critical_path <= usage.span_tokens <= usage.work_tokens
    assert counted.longest_thread <= counted.tokens
    assert 0 <= counted.acceleration <= 1
    assert 0 <= counted.parallel_ratio <= 1
    assert counted.degree >= 1 or not counted.written
