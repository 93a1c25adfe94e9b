"""A policy of one's own: sample until some answer has a quorum of votes.

On the command line: reason solve "Compute 12 + 5 * 3" --policy examples/own_policy.py:Quorum:need=2
"""

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from pruning import Began, Decisions, Ended, Finish, Launch, Observation, Policy
from reasoning import solve_sync


@dataclass(frozen=True, kw_only=True)
class Quorum(Policy[Counter]):
    name: ClassVar[str] = "quorum"

    need: int = 3
    most: int = 16

    def begin(self, rng: Random) -> Counter:
        return Counter()

    def observe(self, state: Counter, observation: Observation) -> Decisions:
        match observation:
            case Began():
                return (Launch(count=self.most, reason="all at once"),)
            case Ended(answer=answer):
                state[answer] += 1
                if answer is not None and state[answer] == self.need:
                    return (Finish(answer=answer, reason=f"{self.need} votes"),)
                if state.total() == self.most:
                    return (Finish(answer=None, reason="no quorum"),)
        return ()


if __name__ == "__main__":
    solution = solve_sync("Compute 12 + 5 * 3", policy=Quorum(need=4))
    print(solution.answer, solution.votes, solution.steering.finish.reason)
