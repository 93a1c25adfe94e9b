"""Models that fork and join in a tongue of their own, run as their authors mean it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, cast

from orchestrator.errors import InvalidValue
from pruning import Tally
from reasoning.language.native.dialect import NATIVE, NativeDialect, NativeSpeech
from reasoning.run.run import Run
from reasoning.strategies.base import Strategy
from reasoning.strategies.tongues.interpreter import Interpreter
from reasoning.strategies.tongues.plans import PlannedTasks
from reasoning.strategies.tongues.rebuilt_states import RebuiltStates
from reasoning.strategies.tongues.references import ReferenceRounds
from reasoning.strategies.tongues.speaker import MOST_BRANCHES, Bounds, Speaker
from reasoning.values.capabilities import Capability

FUNCTIONS: dict[str, type[Speaker]] = {
    "apr": RebuiltStates,
    "sprint": PlannedTasks,
    "references": ReferenceRounds,
}
"""What runs the families whose loops are not a matter of strings alone."""


@dataclass(frozen=True, kw_only=True)
class Native(Strategy):
    """The model's own forks and joins, by its `NativeFormat`.

    The first four bounds are those of `Bounds` and hold beside the family's own.  A fork that is
    refused is told as an event and stands in `Solution.refusals`; `Solution.forked` says whether
    there was any.

    Attributes:
        positions: Those that the model was ``trained`` with, or those of its authors' ``engine``;
            by default the family's choice.
    """

    name: ClassVar[str] = NATIVE
    needs: ClassVar[frozenset[Capability]] = frozenset({"native-format"})
    most_n: ClassVar[int] = MOST_BRANCHES

    n: int = 0
    depth: int = 8
    rounds: int = 64
    critical: int = 0
    positions: Literal["trained", "engine"] | None = None

    def __post_init__(self) -> None:
        for name in ("n", "depth", "rounds", "critical"):
            if getattr(self, name) < 0:
                raise InvalidValue(f"{name}: {getattr(self, name)} is out of range; give 0 or more")
        if self.n > self.most_n:
            raise InvalidValue(f"n: {self.n} is out of range; {self.name} takes 0 to {self.most_n}")

    async def solve(self, run: Run) -> Tally:
        run.forked = False
        async with run.graph:
            self._speaker(run, cast("NativeSpeech", run.dialect)).start()
        return self.tally(run)

    def _speaker(self, run: Run, dialect: NativeSpeech) -> Speaker:
        """What runs this model's tongue."""
        bounds = Bounds(n=self.n, depth=self.depth, rounds=self.rounds, critical=self.critical)
        if dialect.format.function:
            return FUNCTIONS[dialect.format.function](run=run, dialect=dialect, bounds=bounds)
        speaking = cast("NativeDialect", dialect)  # or what has a tongue like one
        placement = dialect.format.placement(self.positions)
        return Interpreter(run=run, dialect=speaking, bounds=bounds, placement=placement)

    def tally(self, run: Run) -> Tally:
        """The trunk's vote; the branches' where these vote, or where nothing joined them."""
        branches = [thread for id, thread in run.threads.items() if "." in id]
        if cast("NativeSpeech", run.dialect).format.join.votes:
            return run.vote(branches)
        tally = super().tally(run)
        if tally.winner is not None or run.join_skipped is None:
            return tally
        return run.vote(one for one in branches if one.answer_source not in ("none", "text"))
