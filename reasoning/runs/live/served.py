"""What a server does with its runs beside answering: it keeps them, and shows them."""

from __future__ import annotations

from orchestrator.errors import leaf, text_of
from orchestrator.events import Listener
from reasoning.run.solution import Solution
from reasoning.runs.keeper import NOBODY, RunKeeper, RunTold
from reasoning.runs.live.live_run import LiveRun
from reasoning.runs.live.live_runs import LiveRuns


class ServedRuns:
    """Keeps runs with a keeper, and shows them among live ones, where there are such."""

    def __init__(self, keeper: RunKeeper, live: LiveRuns | None) -> None:
        self.keeper = keeper
        self.live = live

    def begins(self, question: str, model: str) -> ServedRun:
        """A run begins."""
        return ServedRun(self, question, model)


class ServedRun:
    """One run of a server.

    Attributes:
        observe: What is to hear its events; None where nobody wants them.
    """

    def __init__(self, runs: ServedRuns, question: str, model: str) -> None:
        self.observe: Listener | None = None
        self._runs = runs
        self._model = model
        self._live: LiveRun | None = None
        if runs.live is not None:
            live = LiveRun(question=question, command="serve", model=model, settings={})
            runs.live.add(live.id, live)
            self._live, self.observe = live, live.observe

    def ends(self, solution: Solution, seed: int) -> None:
        """It has ended with this."""
        tell = NOBODY
        if self._live is not None and self._runs.live is not None:
            tell = RunTold(self._live.id, self._runs.live.ending(self._live))
        self._runs.keeper.keep(solution, {"model": self._model, "seed": seed}, tell)

    def fails(self, error: BaseException) -> None:
        """It was stopped, as nobody waits for it any more, or it failed."""
        if self._live is not None and self._runs.live is not None:
            why = text_of(leaf(error)) if isinstance(error, Exception) else "its client has left"
            self._live.fail(why)
            self._runs.live.leave(self._live.id)
