"""A tree of answers that grows where scores promise most: wider, or deeper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from random import Random
from typing import Any, ClassVar, NamedTuple

from orchestrator import Task
from orchestrator.errors import InvalidValue
from pruning import Scorer, Tally
from reasoning.errors import ProblemRefused
from reasoning.language.forms import RevisionForm
from reasoning.run.run import Run, scorer_name
from reasoning.run.solution import AnswerNode, AnswerTree
from reasoning.run.thread import Thread
from reasoning.strategies.base import Strategy
from reasoning.values.capabilities import Capability
from reasoning.values.context import Context


@dataclass(frozen=True, kw_only=True)
class AbMcts(Strategy):
    """Adaptive branching Monte Carlo tree search (AB-MCTS-A; Inoue et al., arXiv 2503.04412).

    The root is the question and every other node an answer.  From the root down, Thompson sampling
    chooses between a new child of the node (at the root an answer by itself, elsewhere a
    refinement of the node's answer) and going down to a child that is there.  What it draws from
    are normal-inverse-χ² beliefs about the scores that new children had, that existing ones led
    to, and that each of them led to.  ``at_once`` nodes are chosen together by what is known, so
    that the tree depends on the seed alone; a large number makes it wide.  The answer with the
    highest score wins, the earliest among equals.

    Attributes:
        n: The nodes of the tree.
        at_once: How many of them are written at a time.
        scorer: The name of what scores answers from 0 to 1 (`load_scorer`); by default the
            `SolveOptions.scorer`, or the problem's verifier.
        enough: A score that ends the search behind its round.

    Raises:
        ProblemRefused: there is neither a scorer nor a verifier (`solve`).
    """

    name: ClassVar[str] = "ab-mcts"
    needs: ClassVar[frozenset[Capability]] = frozenset({"words"})
    default_temperature: ClassVar[float] = 0.7
    scored: ClassVar[bool] = True

    n: int = 16

    at_once: int = 4
    scorer: str = ""
    enough: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.at_once < 1:
            raise InvalidValue(f"at_once: {self.at_once} is out of range; give 1 or more")
        if self.scorer:
            _ = self._named

    @property
    def _named(self) -> Scorer:
        from reasoning.judging.scoring import load_scorer

        return load_scorer(self.scorer)

    async def solve(self, run: Run) -> Tally:
        scorer = self._named if self.scorer else run.scorer
        if scorer is None and run.problem.verify("") is None:
            raise ProblemRefused(
                f"{self.name} needs scores, and this problem has no verifier; give "
                f"{self.name}:scorer=path.py:Name or scorer=URL"
            )
        form = run.dialect.forms(run.problem).revision()
        run.tree = AnswerTree(scorer=scorer_name(scorer))
        await _Search(strategy=self, run=run, form=form, scorer=scorer).grow()
        tally = self.tally(run)
        if tally.winner is not None:
            run.selected = tally.winner, "score"
        return tally

    def tally(self, run: Run) -> Tally:
        """The votes of all nodes, and the answer of the one with the highest score so far."""
        tally = run.vote(run.threads.values())
        nodes = [] if run.tree is None else run.tree.nodes
        answered = [one for one in nodes if run.threads[one.thread].answer is not None]
        if not answered:
            return tally
        best = max(answered, key=lambda node: node.score)
        return replace(tally, winner=run.key(run.threads[best.thread].answer))


@dataclass(kw_only=True)
class _Belief:
    """What is believed of the mean of some scores: normal-inverse-χ², as AB-MCTS-A's.

    Its prior is that of the authors' code: a mean of 0 and a variance of 0.1, each worth one score.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # of the deviations from the mean

    def tell(self, score: float) -> None:
        """Take in a score."""
        self.count += 1
        step = score - self.mean
        self.mean += step / self.count
        self.squares += step * (score - self.mean)

    def draw(self, rng: Random) -> float:
        """A mean, drawn from what is believed of it."""
        weight = self.count + 1  # also the degrees of freedom
        middle = self.count * self.mean / weight
        spread = 0.1 + self.squares + self.count * self.mean**2 / weight
        variance = spread / 2 / rng.gammavariate(weight / 2, 1)
        return rng.gauss(middle, sqrt(variance / weight))


@dataclass(kw_only=True, eq=False)
class _Node:
    """An answer, or with no ``thread`` the question.

    Attributes:
        own: Of the scores that going down to it led to.
        wider: Of the scores of its new children, when they were new.
        deeper: Of the scores that going down to its children led to.
    """

    parent: _Node | None = None
    thread: str | None = None
    text: str = ""
    score: float = 0.0
    children: list[_Node] = field(default_factory=list)
    own: _Belief = field(default_factory=_Belief)
    wider: _Belief = field(default_factory=_Belief)
    deeper: _Belief = field(default_factory=_Belief)

    def chosen(self, rng: Random) -> _Node:
        """The node that is to have a new child: this one, or one below it."""
        if not self.children or self.wider.draw(rng) >= self.deeper.draw(rng):
            return self
        return max(self.children, key=lambda child: child.own.draw(rng)).chosen(rng)

    def tell(self, child: _Node) -> None:
        """Take in a new child, and tell all above it of its score."""
        self.children.append(child)
        self.wider.tell(child.score)
        child.own.tell(child.score)
        node = self
        while node.parent is not None:
            node.own.tell(child.score)
            node.parent.deeper.tell(child.score)
            node = node.parent


class _Attempt(NamedTuple):
    """What came of a thread: its text, and the score of its answer, 0 where it has none."""

    text: str
    score: float


@dataclass(kw_only=True)
class _Search:
    """The growth of one tree."""

    strategy: AbMcts
    run: Run
    form: RevisionForm
    scorer: Scorer | None

    async def grow(self) -> None:
        """Add nodes, a round at a time, until there are enough or a score is."""
        rng, root, size, best = Random(self.run.seed), _Node(), 0, 0.0
        before: list[Task[_Attempt]] = []
        async with self.run.graph:
            while size < self.strategy.n and (not size or best < self.strategy.enough):
                width = min(self.strategy.at_once, self.strategy.n - size)
                parents = [root.chosen(rng) for _ in range(width)]
                before = [self._expand(parent, before) for parent in parents]
                for parent, task in zip(parents, before, strict=True):
                    score = await self._told(parent, task)
                    best = max(best, score)
                size += width

    def _expand(self, parent: _Node, before: Sequence[Task[Any]]) -> Task[_Attempt]:
        """Begin a child of a node; the choice of its parent depends on the round before."""
        name = "answer" if parent.thread is None else f"refines {parent.thread}"
        return self.run.spawn(self._attempt, self._prompt(parent), *before, name=name)

    def _prompt(self, parent: _Node) -> Context:
        room = self.run.max_tokens // 2 - len(self.form.refined("", parent.score))
        (said,) = self.run.fitting_texts([parent.text], room)
        return self.form.refined(said, parent.score) if said else self.form.prompt

    async def _attempt(self, thread: Thread, *_: Any) -> _Attempt:
        await thread.write()
        thread.conclude()
        score = await self.run.score(thread, self.scorer)
        if score is not None and not 0 <= score <= 1:
            raise InvalidValue(
                f"scorer: {scorer_name(self.scorer)} gave {score:g}; ab-mcts compares scores "
                "from 0 to 1, so squeeze them into that range"
            )
        return _Attempt(thread.own_text, score or 0.0)

    async def _told(self, parent: _Node, task: Task[_Attempt]) -> float:
        """Wait for a child, and take it into the tree; returns its score."""
        text, score = await task.result()
        child = _Node(parent=parent, thread=task.id, text=text, score=score)
        parent.tell(child)
        node = AnswerNode(thread=task.id, parent=parent.thread, score=score)
        assert self.run.tree is not None
        self.run.tree = replace(self.run.tree, nodes=(*self.run.tree.nodes, node))
        return score
