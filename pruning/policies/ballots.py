"""The state that voting policies share: who runs, who ended, with which answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pruning.decisions import NOTHING, Decisions, Finish, Launch
from pruning.observations import Began, Ended
from pruning.policies.votes import Tally, majority


@dataclass(kw_only=True, slots=True)
class Ballots:
    """Launched, running and ended traces, and the votes of the ended ones.

    Attributes:
        most: How many traces may be launched in all.
        answers: By trace, of those that ended by themselves.
        cut: By trace, of those that ended at their limit; asked only where nobody finished.
        votes: How often each answer was given by one that ended by itself.
        grid: At which multiples of tokens the driver can probe; 0 where it can't.
    """

    most: int
    launched: int = 0
    running: int = 0
    answers: dict[int, str | None] = field(default_factory=dict)
    cut: dict[int, str | None] = field(default_factory=dict)
    votes: Counter[str] = field(default_factory=Counter)
    grid: int = 0

    def heed(self, began: Began) -> None:
        """Take over what the driver can do."""
        self.most = self.most if began.most is None else min(self.most, began.most)
        self.grid = began.probe_every

    def every(self, wanted: int) -> int:
        """The probing interval nearest above ``wanted`` on the driver's grid; 0 without one."""
        return -(-wanted // self.grid) * self.grid if self.grid else 0

    def launch(
        self,
        count: int,
        reason: str,
        *,
        probe_every: int = 0,
        limit: int | None = None,
        mark: int = 0,
    ) -> Decisions:
        """Launch ``count`` more, or as many as are left."""
        count = min(count, self.most - self.launched)
        if count <= 0:
            return NOTHING
        self.launched += count
        self.running += count
        return (
            Launch(count=count, reason=reason, probe_every=probe_every, limit=limit, mark=mark),
        )

    def end(self, ended: Ended) -> None:
        """Count the vote of a trace that ended; one that was stopped has none."""
        self.running -= 1
        if ended.how == "length":
            self.cut[ended.trace] = ended.answer
        elif ended.how == "finished":
            self.answers[ended.trace] = ended.answer
            if ended.answer is not None:
                self.votes[ended.answer] += 1

    def tally(self, others: Mapping[int, str | None] | None = None) -> Tally:
        """The vote in the order of launch, so that who ends first at one time decides nothing.

        Args:
            others: Answers of traces that have none yet.
        """
        ballots = {**(others or {}), **self.answers}
        return majority(ballots[trace] for trace in sorted(ballots))

    def elect(self, others: Mapping[int, str | None] | None = None) -> Decisions:
        """Finish with the majority of those that ended, or else of those cut at their limit."""
        tally = self.tally(others)
        if tally.winner is None:
            tally = self.tally(self.cut)
        if tally.winner is None:
            return (Finish(answer=None, reason=f"none of {self.launched} gave an answer"),)
        votes, cast = tally.votes[tally.winner], sum(tally.votes.values()) + tally.abstained
        return (Finish(answer=tally.winner, reason=f"majority: {votes} of {cast} votes"),)
