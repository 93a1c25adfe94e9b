"""The embedded engine on random weights whose tokens a script chooses; its logits are real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from orchestrator import Event
from reasoning import Reasoner, Solution
from reasoning.backends.embedded import EmbeddedBackend
from reasoning.engine.threads import StepRow
from reasoning.language.native.dialect import NativeDialect
from reasoning.models.loaded import LoadedModel
from reasoning.options import SolveOptions
from reasoning.values.context import Segment
from tests.support.native_tools import END
from tests.support.watched_engine import Watched


class ScriptedEngine(Watched):
    """Writes what a script has for the longest end of what a thread sees, token by token."""

    def follow(self, dialect: NativeDialect, script: Mapping[str, str]) -> None:
        self.dialect, self.script = dialect, script
        self._left: dict[int, list[int]] = {}
        self.watch()
        self.segments.logits = self._chosen  # type: ignore[method-assign]

    def _chosen(self, row: StepRow) -> Tensor:
        thread = row.thread
        assert thread is not None
        left = self._left.setdefault(thread.id, [])
        if not left:
            seen = [*thread.segment.context.tokens, *thread.stored.tokens]
            left += self._reply(self.dialect.tongue.text_of(seen))
        chosen = torch.full((self.config.vocabulary,), -100.0)
        chosen[left.pop(0)] = 0.0
        return chosen

    def _reply(self, text: str) -> list[int]:
        fits = [end for end in self.script if text.endswith(end)]
        return self.dialect.encode(self.script[max(fits, key=len)] if fits else END)

    def sequence(self, final: Sequence[int]) -> dict[Segment, int]:
        """Where each segment stands in a run's whole sequence, as its last thread saw it."""
        last = next(
            one
            for one, _ in reversed(self.logits)
            if [*one.context.tokens, *one.tokens] == list(final)
        )
        starts, at = dict[Segment, int](), 0
        for entry in last.context.entries:
            starts[entry.segment] = at
            at += len(entry)
        return {**starts, last: at}


async def run_scripted(
    engine: ScriptedEngine, dialect: NativeDialect, **options: Any
) -> tuple[Solution, list[int]]:
    """A native run on such an engine, and its whole sequence."""
    backend = EmbeddedBackend(engine)
    context = engine.config.context
    model = LoadedModel(name="scripted", dialect=dialect, context=context, backend=backend)
    told: list[Event] = []
    async with Reasoner(model) as reasoner:
        how = SolveOptions(listener=told.append, temperature=0.0, **options)
        solution = await reasoner.solve_with("Why?", how)
    ended = [list(event.tokens) for event in told if hasattr(event, "tokens")]
    return solution, ended[-1]
