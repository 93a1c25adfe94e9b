"""An `Allocation` replayed over stored traces of many questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pruning.allocation import Allocation, Allocator, QuestionState
from pruning.evaluation.evaluator import Evaluator
from pruning.evaluation.replay import Replay
from pruning.evaluation.statistics import QuestionOutcome, Summary, mean, summarise
from pruning.evaluation.traces import Question, Trace
from pruning.policies.probing import ProbedConsensus
from pruning.policies.votes import majority


@dataclass(frozen=True, kw_only=True)
class Allocated:
    """An allocation over all questions.

    Attributes:
        summary: As of a policy.  A question's span is the clock at which its last sample ended:
            the samples of a round start together, when the round before has ended.
        rounds: How many rounds there were, as a mean over orders.
        span: The clock at which the last round ended, as a mean over orders.
    """

    summary: Summary
    rounds: float
    span: float


@dataclass(kw_only=True, slots=True)
class _Spent:
    """One question in one order.

    Attributes:
        ballots: The answers of the samples that ended, in the order of launch.
        launched: How many stored traces were used, aborted ones included.
    """

    question: Question
    stored: Sequence[Trace]
    ballots: list[str | None] = field(default_factory=list)
    launched: int = 0
    tokens: int = 0
    span: int = 0


@dataclass(kw_only=True)
class _Batch:
    """One order of the traces of all questions, and one budget."""

    allocation: Allocation
    spent: dict[str, _Spent]
    clock: int = 0
    rounds: int = 0

    def __post_init__(self) -> None:
        most = self.allocation.most
        self.allocator = Allocator(
            states={
                name: QuestionState(most=min(most, len(one.stored)))
                for name, one in self.spent.items()
            }
        )

    def run(self, seed: int) -> None:
        """Spend the budget, round by round."""
        first = self.allocation.first
        if first:
            self._draw({name: min(first, len(one.stored)) for name, one in self.spent.items()})
        else:
            self._begin(seed)
        budget = self.allocation.mean * self.allocator.mean_cost * len(self.spent)
        for rounds in range(self.allocation.rounds, 0, -1):
            left = budget - sum(one.tokens for one in self.spent.values())
            if left > 0 and (counts := self.allocator.next_round(left / rounds)):
                self._draw(counts, left)

    def _begin(self, seed: int) -> None:
        """Run the default policy on each question, and go on from its votes."""
        for name, one in self.spent.items():
            every = one.question.probe_every
            replay = Replay(
                policy=ProbedConsensus(), stored=one.stored, probe_every=every, seed=seed
            )
            done, state = replay.run(), replay.session.state
            ended = sorted(state.answers)
            one.ballots = [state.answers[trace] for trace in ended]
            one.launched, one.tokens, one.span = done.traces, done.tokens, done.span
            known = self.allocator.states[name]
            known.most = max(0, (known.most or 0) - done.traces + len(one.ballots))
            for trace in ended:
                self.allocator.tell(name, state.answers[trace], one.stored[trace].tokens)
        self._end_round()

    def _draw(self, counts: Mapping[str, int], left: float | None = None) -> None:
        """Draw the samples of one round; those that outlive the budget have no vote."""
        drawn = {
            name: self.spent[name].stored[self.spent[name].launched :][:count]
            for name, count in counts.items()
        }
        lengths = [trace.tokens for traces in drawn.values() for trace in traces]
        stop = max(lengths, default=0) if left is None else cut(lengths, int(left))
        for name, traces in drawn.items():
            self._take(name, traces, stop)
        self._end_round()

    def _take(self, name: str, traces: Sequence[Trace], stop: int) -> None:
        one = self.spent[name]
        for trace in traces:
            one.launched += 1
            one.tokens += min(trace.tokens, stop)
            if trace.tokens <= stop:
                one.ballots.append(trace.answer)
                self.allocator.tell(name, trace.answer, trace.tokens)
        longest = max((min(trace.tokens, stop) for trace in traces), default=0)
        one.span = self.clock + longest if longest else one.span

    def _end_round(self) -> None:
        self.rounds += 1
        self.clock = max(self.clock, *(one.span for one in self.spent.values()))


def cut(lengths: Sequence[int], tokens: int) -> int:
    """The tick until which traces of these lengths can run together with so many tokens in all."""
    running, at = len(lengths), 0
    for length in sorted(lengths):
        if (length - at) * running > tokens:
            return at + tokens // running
        tokens -= (length - at) * running
        running, at = running - 1, length
    return at


def allocate(evaluator: Evaluator, allocation: Allocation) -> Allocated:
    """Replay an allocation over the questions of an evaluator, in its orders.

    The budget is the same in each order, up to the mean length of the first round's samples.  No
    order spends more: at its end, what still runs is stopped and has no vote.
    """
    runs = []
    for shuffle in range(evaluator.shuffles):
        spent = {
            question.id: _Spent(question=question, stored=evaluator.order(question, shuffle))
            for question in evaluator.questions
        }
        batch = _Batch(allocation=allocation, spent=spent)
        batch.run(evaluator.seed + shuffle)
        runs.append(batch)
    outcomes = [
        _outcome(question, [batch.spent[question.id] for batch in runs])
        for question in evaluator.questions
    ]
    return Allocated(
        summary=summarise(allocation.label, outcomes),
        rounds=mean([batch.rounds for batch in runs]),
        span=mean([batch.clock for batch in runs]),
    )


def _outcome(question: Question, runs: Sequence[_Spent]) -> QuestionOutcome:
    right = tuple(float(majority(one.ballots).winner in question.right) for one in runs)
    return QuestionOutcome(
        question=question.id,
        accuracy=mean(right),
        orders=right,
        tokens=mean([one.tokens for one in runs]),
        span=mean([one.span for one in runs]),
        traces=mean([one.launched for one in runs]),
    )
