"""Strategies that write answers anew from earlier ones: self-aggregation and the tree search."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import anyio
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidValue, ReasonError
from reasoning import Reasoner, Solution, load_model
from reasoning.backends.text import TextBackend
from reasoning.cli import main
from reasoning.errors import CapabilityMissing, ProblemRefused
from reasoning.models.loaded import LoadedModel
from reasoning.problems import Countdown, FreeForm
from reasoning.run.report import report
from reasoning.strategies import AbMcts, Rsa
from reasoning.strategies.revising.ab_mcts import _Belief, _Node
from reasoning.strategies.support import support
from reasoning.values.sampling import Sampling

QUESTION = "How far is it?"
Reply = Callable[[str, int], str]


class Told(TextBackend):
    """Writes what a function of the question and of the number of the request says."""

    name = "told"

    def __init__(self, reply: Reply, *, context: int = 4000) -> None:
        super().__init__(context=context)
        self.reply = reply
        self.asked: list[str] = []

    async def write(
        self, messages: list[dict[str, str]], sampling: Sampling, *, most: int
    ) -> AsyncIterator[str]:
        self.asked.append(messages[-1]["content"])
        yield self.reply(self.asked[-1], len(self.asked))


def solved(backend: Told, problem: Any = None, **options: Any) -> Solution:
    async def run() -> Solution:
        async with Reasoner(load_model(backend=backend)) as reasoner:
            return await reasoner.solve(problem or FreeForm(question=QUESTION), **options)

    return anyio.run(run)


def numbered(asked: str, number: int) -> str:
    return f"Way {number}.\n\nIt is \\boxed{{{number}}}"


def shown(prompt: str) -> list[int]:
    """The numbers of the ways that a prompt shows."""
    return [int(found) for found in re.findall(r"Way (\d+)\.", prompt)]


# Self-aggregation.


def test_each_new_attempt_is_shown_some_of_the_round_before() -> None:
    backend = Told(numbered)
    solution = solved(backend, strategy="rsa:n=4,k=2,rounds=2", seed=3)
    first, second, third = backend.asked[:4], backend.asked[4:8], backend.asked[8:]
    assert len(third) == 4
    assert all(shown(prompt) == [] for prompt in first)
    for prompts, earlier in ((second, {1, 2, 3, 4}), (third, {5, 6, 7, 8})):
        for prompt in prompts:
            seen = shown(prompt)
            assert len(set(seen)) == 2
            assert set(seen) <= earlier
            assert QUESTION in prompt
            assert "\\boxed{}" in prompt
    assert set(solution.votes) == {"9", "10", "11", "12"}
    assert [thread.name for thread in solution.threads].count("round 2") == 4


def test_the_majority_of_the_last_round_is_the_answer() -> None:
    def reply(asked: str, number: int) -> str:
        if not shown(asked):
            return numbered(asked, number)
        return "Way 9.\n\nIt is \\boxed{9}" if number != 5 else "Way 5.\n\nIt is \\boxed{5}"

    solution = solved(Told(reply), strategy="rsa:n=3,k=3,rounds=1")
    assert (solution.answer, solution.votes) == ("9", {"9": 2, "5": 1})
    assert solution.selected_by == "votes"


def test_one_last_attempt_is_shown_all() -> None:
    backend = Told(numbered)
    solution = solved(backend, strategy="rsa:n=4,k=1,rounds=2,last=one")
    assert len(backend.asked) == 4 + 4 + 1
    assert sorted(shown(backend.asked[-1])) == [5, 6, 7, 8]
    assert (solution.answer, solution.votes) == ("9", {"9": 1})


def test_a_round_without_answers_leaves_that_before_it() -> None:
    def reply(asked: str, number: int) -> str:
        return "" if shown(asked) else "Way 1.\n\nIt is \\boxed{7}"

    assert solved(Told(reply), strategy="rsa:n=2,k=2,rounds=1").answer == "7"


def test_thoughts_are_not_shown_and_long_attempts_are_cut_by_name() -> None:
    def reply(asked: str, number: int) -> str:
        return f"<think>secret {'x ' * 400}</think>{'word ' * 900}Way {number}. \\boxed{{1}}"

    backend = Told(reply, context=2000)
    solution = solved(backend, strategy="rsa:n=2,k=2,rounds=1")
    assert "paths-cut" in solution.emulated
    for prompt in backend.asked[2:]:
        assert "secret" not in prompt
        assert sorted(shown(prompt)) == [1, 2]
        assert len(prompt) < 2000 * 4 / 2 + 200


def test_an_attempt_waits_for_those_that_it_is_shown_alone() -> None:
    solution = solved(Told(numbered), strategy="rsa:n=4,k=2,rounds=2", seed=1)
    edges = [(int(edge.source), int(edge.target)) for edge in solution.graph.edges]
    for number in range(1, 13):
        shown_to = [source for source, target in edges if target == number]
        assert len(shown_to) == (0 if number < 5 else 2)
        assert all((source - 1) // 4 == (number - 1) // 4 - 1 for source in shown_to)
    assert solution.usage.span_tokens < solution.usage.work_tokens


def test_the_same_seed_shows_the_same_attempts() -> None:
    def once(seed: int) -> list[str]:
        backend = Told(numbered)
        solved(backend, strategy="rsa:n=4,k=2,rounds=1", seed=seed)
        return backend.asked

    assert once(5) == once(5)
    assert any(once(5) != once(seed) for seed in range(3))


# The tree search.


def near(question: str, text: str, answer: str) -> float:
    """1 for an answer of 100, less below."""
    return int(answer) / 100


def climbing(asked: str, number: int) -> str:
    """Twenty more than what is shown, or twenty."""
    seen = shown(asked)
    value = min(100, seen[0] + 20) if seen else 20
    return f"Way {value}.\n\nIt is \\boxed{{{value}}}"


def test_what_scores_well_is_refined_until_a_score_is_enough() -> None:
    backend = Told(climbing)
    solution = solved(backend, strategy=AbMcts(n=200, at_once=2), scorer=near)
    assert (solution.answer, solution.selected_by) == ("100", "score")
    assert solution.tree is not None
    assert solution.tree.scorer == "near"
    assert len(solution.tree.nodes) == len(solution.threads) < 200
    scores: dict[str | None, float] = {None: 0.0}
    for node in solution.tree.nodes:
        assert node.score == pytest.approx(min(1, scores[node.parent] + 0.2))
        scores[node.thread] = node.score
    wide = sum(node.parent is None for node in solution.tree.nodes)
    assert wide < len(solution.tree.nodes) / 2
    told = [prompt for prompt in backend.asked if "a score of 0.40" in prompt]
    assert told
    assert all(shown(prompt) == [40] for prompt in told)


def test_where_refining_never_helps_the_tree_grows_wide() -> None:
    def reply(asked: str, number: int) -> str:
        return "It is \\boxed{0}" if "An earlier attempt" in asked else "It is \\boxed{60}"

    shares = []
    for seed in range(4):
        strategy = AbMcts(n=40, at_once=2)
        solution = solved(Told(reply), strategy=strategy, scorer=near, seed=seed)
        assert solution.tree is not None
        assert len(solution.tree.nodes) == 40
        shares.append(sum(node.parent is None for node in solution.tree.nodes) / 40)
    assert sum(shares) / len(shares) > 0.5


def test_the_verifier_scores_where_no_scorer_is_given() -> None:
    right = "10*5=50 as 21-3=18, 23-18=5"
    steps = "21-3=18, 23-18=5, 10*5=50"

    def reply(asked: str, number: int) -> str:
        return f"\\boxed{{{steps if 'a score of 0.00' in asked else right}}}"

    problem = Countdown(numbers=(3, 10, 21, 23), target=50)
    solution = solved(Told(reply), problem, strategy="ab-mcts:n=60,at_once=2")
    assert solution.verified
    assert solution.tree is not None
    assert solution.tree.scorer == "verifier"
    assert solution.tree.nodes[-1].score == 1.0 or solution.tree.nodes[-2].score == 1.0


def test_the_tree_follows_from_the_seed() -> None:
    def once(seed: int) -> Any:
        strategy = AbMcts(n=12, at_once=3, enough=2.0)
        return solved(Told(climbing), strategy=strategy, scorer=near, seed=seed).tree

    assert once(1) == once(1)
    assert len({once(seed) for seed in range(4)}) > 1


def test_the_tree_stands_in_the_result_and_on_the_last_line(tmp_path: Any) -> None:
    solution = solved(Told(climbing), strategy=AbMcts(n=5, at_once=5), scorer=near)
    told = report(solution)
    assert told.tree is not None
    assert told.tree.scorer == "near"
    assert [node.parent for node in told.tree.nodes] == [None] * 5
    own = tmp_path / "own.py"
    own.write_text(
        "from reasoning import TextBackend\n\n\n"
        "class Ten(TextBackend):\n    name = 'ten'\n\n"
        "    async def write(self, messages, sampling, *, most):\n"
        "        yield 'It is \\\\boxed{10}'\n\n\n"
        "def near(question, text, answer):\n    return int(answer) / 100\n"
    )
    words = ["--backend", f"{own}:Ten", "--strategy", f"ab-mcts:n=3,scorer={own}:near"]
    done = CliRunner().invoke(main, ["solve", QUESTION, *words])
    assert done.exit_code == 0, done.output
    assert done.stdout == "10\n"
    assert "tree of 3 answers, 3 by themselves, 1 deep, best 0.10 by" in done.stderr


@pytest.mark.parametrize(
    ("strategy", "kind", "message"),
    [
        ("ab-mcts:n=2", ProblemRefused, r"no verifier; give ab-mcts:scorer=path\.py:Name"),
        ("ab-mcts:scorer=nowhere.py:f", ReasonError, r"there is no file nowhere\.py"),
        ("ab-mcts:at_once=0", InvalidValue, "at_once: 0 is out of range"),
        ("rsa:k=0", InvalidValue, "k, rounds: 0 is out of range"),
        ("rsa:last=two", InvalidValue, "give vote, one"),
    ],
)
def test_what_can_not_be_is_refused(strategy: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        solved(Told(climbing), strategy=strategy)


def test_a_score_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidValue, match="gave 4; ab-mcts compares scores from 0 to 1"):
        solved(Told(climbing), strategy="ab-mcts:n=2", scorer=lambda *_: 4.0)


def test_what_a_strategy_needs_is_said_before_it_runs() -> None:
    model = load_model(backend=Told(numbered))
    assert support(Rsa(), model).word == "runs"
    assert support(AbMcts(), model).word.startswith("runs with a scorer, or where the problem")


@pytest.mark.anyio
@pytest.mark.parametrize("strategy", [Rsa(), AbMcts()])
async def test_a_model_without_words_is_refused(
    shipped: LoadedModel, strategy: Rsa | AbMcts
) -> None:
    async with Reasoner(shipped) as reasoner:
        with pytest.raises(CapabilityMissing, match="needs words"):
            await reasoner.solve("Use 3, 10, 21 and 23 to make 50", strategy=strategy)


@given(st.lists(st.floats(0, 1), max_size=30))
def test_beliefs_come_to_the_mean_that_they_are_told(scores: list[float]) -> None:
    belief, rng = _Belief(), Random(0)
    for score in scores:
        belief.tell(score)
    middle = sum(scores) / (len(scores) + 1)
    mean = sum(scores) / max(len(scores), 1)
    squares = sum((score - mean) ** 2 for score in scores)
    assert belief.mean == pytest.approx(mean)
    assert belief.squares == pytest.approx(squares, abs=1e-9)
    drawn = sorted(belief.draw(rng) for _ in range(801))
    spread = 0.1 + squares + len(scores) * mean**2 / (len(scores) + 1)
    width = (spread / (len(scores) + 1)) ** 0.5 / (len(scores) + 1) ** 0.5
    assert drawn[400] == pytest.approx(middle, abs=6 * width / 801**0.5 * 1.6)


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1)), min_size=1, max_size=20))
def test_each_score_is_told_to_all_above(grown: list[tuple[int, float]]) -> None:
    nodes = [_Node()]
    for place, score in grown:
        child = _Node(parent=nodes[place % len(nodes)], thread="t", score=score)
        assert child.parent is not None
        child.parent.tell(child)
        nodes.append(child)

    def below(node: _Node) -> int:
        return sum(1 + below(child) for child in node.children)

    for node in nodes:
        assert node.wider.count == len(node.children)
        assert node.deeper.count == below(node) - len(node.children)
        if node.parent is not None:
            assert node.own.count == 1 + below(node)
