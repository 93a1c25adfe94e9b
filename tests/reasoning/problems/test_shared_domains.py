"""Domains that can be solved in part: generators, exact solvers, strict verifiers, coverage."""

from __future__ import annotations

import random
import re

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidValue, ReasonError
from reasoning.errors import ProblemRefused
from reasoning.evaluation import draw_problems
from reasoning.problems import (
    Arithmetic,
    Covered,
    Enumeration,
    FreeForm,
    Several,
    ShortestPaths,
    enumeration,
    recognise,
    several,
    shortest_paths,
)
from reasoning.problems.expression import value

SEEDS = st.integers(0, 10**6)
GENERATORS = [several.generate, enumeration.generate, shortest_paths.generate]
generators = pytest.mark.parametrize("generate", GENERATORS, ids=lambda g: g.__module__)
ANSWERS = st.one_of(st.text(max_size=30), st.text(alphabet="0123456789,;? -.", max_size=40))

LIST = Enumeration(count=4, divisor=7)
SUMS = Several(expressions=("3 + 4", "5 * 6", "9 - 2"))
GRAPH = ShortestPaths(weights=((0, 5, 9), (4, 0, 2), (7, 1, 0)))


def solution(problem: object) -> str:
    """An answer, computed without the code under test where it is not trivial."""
    if isinstance(problem, Several):
        return ", ".join(str(value(part.tree)) for part in problem.parts)
    if isinstance(problem, Enumeration):
        return ", ".join(map(str, problem.solution()))
    assert isinstance(problem, ShortestPaths)
    graph = networkx.DiGraph()
    nodes = range(len(problem.weights))
    graph.add_weighted_edges_from(
        (i, j, problem.weights[i][j]) for i in nodes for j in nodes if i != j
    )
    found = dict(networkx.all_pairs_dijkstra_path_length(graph))
    return " ; ".join(" ".join(str(found[i][j]) for j in nodes) for i in nodes)


@generators
@given(seed=SEEDS)
def test_the_exact_solution_is_verified_and_covers_all(generate: object, seed: int) -> None:
    problem = generate(random.Random(seed))  # type: ignore[operator]
    assert isinstance(problem, Covered)
    answer = solution(problem)
    verdict = problem.verify(answer)
    assert verdict is not None
    assert verdict.ok, verdict.reason
    assert problem.coverage(answer) == 1
    assert problem.canonical(answer) is not None
    assert problem.coverage("") == 0


@generators
def test_problems_come_from_the_side_of_the_split_that_is_asked_for(generate: object) -> None:
    rng = random.Random(0)
    for side in (True, False):
        assert generate(rng, held_out=side).held_out is side  # type: ignore[operator]


@pytest.mark.parametrize("problem", [LIST, SUMS, GRAPH])
@given(answer=ANSWERS)
def test_any_answer_covers_a_share_and_what_is_verified_covers_all(
    problem: Covered, answer: str
) -> None:
    share, verdict = problem.coverage(answer), problem.verify(answer)
    assert 0 <= share <= 1
    assert verdict is not None
    if verdict.ok:
        assert share == 1
    if not isinstance(
        problem, Enumeration
    ):  # where a wrong item may stand beside enough right ones
        assert verdict.ok is (share == 1)
    problem.canonical(answer)


@given(SEEDS, st.integers(3, 6))
def test_each_phase_of_the_solver_allows_one_more_node_on_the_way(seed: int, size: int) -> None:
    problem = shortest_paths.generate(random.Random(seed), size=size)
    for k, matrix in enumerate(problem.phases):
        for i in range(size):
            graph = networkx.DiGraph()
            nodes = {*range(k), i}
            for a in nodes:
                graph.add_weighted_edges_from(
                    (a, b, problem.weights[a][b]) for b in range(size) if a != b
                )
            inner = graph.copy()
            inner.remove_nodes_from(set(graph) - nodes)
            found = networkx.single_source_dijkstra_path_length(inner, i)
            for j in range(size):
                through = [found[a] + problem.weights[a][j] for a in found if a != j]
                assert matrix[i][j] == (0 if i == j else min(through))


@given(SEEDS)
def test_skewed_weights_make_detours_pay(seed: int) -> None:
    rng = random.Random(seed)
    problems = [shortest_paths.generate(rng) for _ in range(5)]
    assert any(problem.weights != problem.phases[-1] for problem in problems)


@pytest.mark.parametrize(
    ("answer", "share", "reason"),
    [
        ("7, 14, 21, 28", 1.0, ""),
        ("28 7 14 994", 1.0, ""),
        ("7, 14, 21, 28, 35", 1.0, ""),
        ("7, 14, 21", 0.75, "3 of 4"),
        ("7, 7, 14, 21", 0.75, "3 of 4"),
        ("7, 14, 21, 30", 0.75, "30 is not"),
        ("7, 14, 21, 28, 30", 1.0, "30 is not"),
        ("0, 7, 14, 21", 0.75, "0 is not"),
        ("-7, 14, 21, 28", 0.75, "is not"),
        ("7.0, 14, 21, 28", 0.75, "is not"),
        ("7, 14, 21, 1001", 0.75, "1001 is not"),
        ("7, 14, 21, 7000000000000", 0.75, "is not"),
        ("", 0.0, "0 of 4"),
        ("7, 14, 21 and 28", 1.0, ""),
        ("7; 14; 21; 28.", 1.0, ""),
        (r"\{7, 14, \text{ and } 21, 28\}", 1.0, ""),
        ("not 7, 14, 21, 28", 1.0, "no list"),
        ("The multiples are not: 7, 14, 21, 28", 1.0, "no list"),
        ("The multiples of 7 are 14, 21, 28.", 0.75, "3 of 4"),
        ("The multiples of 7 are 7, 14, 21 and 28.", 1.0, ""),
        ("1. 7\n2. 14\n3. 21\n4. 28", 1.0, ""),
        ("7, 14, 21, 28 are wrong", 1.0, "no list"),
    ],
)
def test_an_enumeration_needs_enough_different_items_and_no_other(
    answer: str, share: float, reason: str
) -> None:
    verdict = LIST.verify(answer)
    assert verdict.ok is not bool(reason)
    assert reason in verdict.reason
    assert LIST.coverage(answer) == share


@pytest.mark.parametrize(
    ("answer", "share", "reason"),
    [
        ("7, 30, 7", 1.0, ""),
        ("7,30,7", 1.0, ""),
        ("7, 30", 2 / 3, "wrong or missing: 3"),
        ("?, 30, 8", 1 / 3, "wrong or missing: 1, 3"),
        ("30, 7, 7", 1 / 3, "wrong or missing: 1, 2"),
        ("7, 30, 7, 7", 0.0, "wrong or missing"),
        ("1) 7; 2) 30; 3) 7", 1.0, ""),
        ("(1) 7 (2) 30 (3) 7", 1.0, ""),
        (r"7, 30 \text{ and } 7", 1.0, ""),
        ("7; 30; 7.", 1.0, ""),
        ("(7, 30, 7)", 1.0, ""),
        ("1. 7\n2. 30\n3. 7", 1.0, ""),
        ("1) 3+4 = 7\n2) 5*6 = 30\n3) 9-2 = 7", 1.0, ""),
        ("2) 30; 1) 7; 3) 7", 0.0, "wrong or missing"),
    ],
)
def test_several_values_are_checked_in_order(answer: str, share: float, reason: str) -> None:
    verdict = SUMS.verify(answer)
    assert verdict.ok is not bool(reason)
    assert reason in verdict.reason
    assert SUMS.coverage(answer) == pytest.approx(share)


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        ("0 5 7 ; 4 0 2 ; 5 1 0", 1.0),
        ("0 5 7; 4 0 2; 5 1 0;", 1.0),
        ("0 5 9 ; 4 0 2 ; 5 1 0", 5 / 6),
        ("0 5 7 ; 4 0 2", 4 / 6),
        ("0 5 7 ; 4 0 ? ; ? ? 0", 3 / 6),
        ("0 5 ; 4 0 2 ; 5 1 0", 4 / 6),
        ("3 5 7 ; 4 0 2 ; 5 1 0", 4 / 6),
        ("0 -5 7 ; 4 0 2 ; 5 1 0", 5 / 6),
        ("0 5 7 ; 4 0 2 ; 5 1 0 ; 1 1 1", 0.0),
        ("no idea", 0.0),
    ],
)
def test_every_distance_is_checked(answer: str, share: float) -> None:
    assert GRAPH.coverage(answer) == pytest.approx(share)
    assert GRAPH.verify(answer).ok is (share == 1)


# ---- recognition -------------------------------------------------------------------------------


@generators
@given(seed=SEEDS)
def test_the_question_of_a_problem_is_recognised_as_that_problem(
    generate: object, seed: int
) -> None:
    problem = generate(random.Random(seed))  # type: ignore[operator]
    assert recognise(problem.question) == problem


def test_more_enumerations_than_there_are_are_refused_at_once() -> None:
    assert len(set(draw_problems("enumeration", 206, numbers=40, seed=0))) == 206
    with pytest.raises(InvalidValue, match="n: only 206 enumerations of 8 to 40 items"):
        draw_problems("enumeration", 207, numbers=40, seed=0)
    with pytest.raises(InvalidValue, match="count: 500 items"):
        enumeration.generate(random.Random(0), count=500, held_out=True)


def test_a_list_is_held_out_with_all_others_of_its_divisor() -> None:
    sides = {
        divisor: {Enumeration(count=count, divisor=divisor).held_out for count in range(2, 11)}
        for divisor in enumeration.DIVISORS
    }
    assert all(len(side) == 1 for side in sides.values())
    assert sum(side == {True} for side in sides.values()) == len(enumeration.HELD_OUT) == 20


@pytest.mark.parametrize(
    "text",
    [
        "List 4 multiples of 7",
        "Name 4 different multiples of 7.",
        "please write down 4 distinct multiples of 7 below 1000",
        "Give me 4 multiples of 7!",
        LIST.question,
    ],
)
def test_an_enumeration_is_recognised_from_plain_words(text: str) -> None:
    assert recognise(text) == LIST


@pytest.mark.parametrize(
    "text",
    [
        "3+4; 5*6; 9-2",
        "Compute 3+4; 5*6; 9-2.",
        "Compute each: 1) 3+4; 2) 5*6; 3) 9-2.",
        "What is 3 + 4; 5 × 6; 9 − 2?",
        "(3+4); (5*6); (9-2)",
    ],
)
def test_several_expressions_are_recognised_from_plain_words(text: str) -> None:
    assert recognise(text) == SUMS


@pytest.mark.parametrize(
    "text",
    [
        "Find the shortest paths in the graph with edges 0 5 9; 4 0 2; 7 1 0",
        "shortest distances between all nodes, weights: 0 5 9; 4 0 2; 7 1 0.",
        GRAPH.question,
    ],
)
def test_a_graph_is_recognised_from_plain_words(text: str) -> None:
    assert recognise(text) == GRAPH


@pytest.mark.parametrize(
    "text",
    [
        "List 4 multiples of 7 and 9",
        "Give 3 common multiples of 4 or 5",
        "What is the shortest path from Rome to Oslo?",
        "Is a list; of; 3 words a list?",
        "List five multiples of seven",
        "List 10 multiples of 4 that are not multiples of 8.",
        "Give the first 5 multiples of 12 in binary.",
        "Find 3 consecutive multiples of 4 whose sum is 108.",
        "List 4 multiples of 7 below 20",
        "Find the shortest path in the graph with edges 1-2 5; 2-3 4; 1-3 10. Which nodes?",
        "Compute each and say which is larger: 1) 3+4; 2) 2*5",
    ],
)
def test_what_is_not_quite_such_a_problem_is_free_form(text: str) -> None:
    assert isinstance(recognise(text), FreeForm)


def test_one_expression_is_no_list() -> None:
    assert isinstance(recognise("Compute (3+4)*2;"), Arithmetic | FreeForm)


@pytest.mark.parametrize(
    ("text", "error", "field"),
    [
        ("List 1 multiples of 7", InvalidValue, "count: 1"),
        ("List 101 multiples of 7", InvalidValue, "count: 101"),
        (f"List {'9' * 4000} multiples of 7", InvalidValue, "count"),
        (f"List 4 multiples of {'9' * 4000}", InvalidValue, "divisor"),
        ("List 90 multiples of 90", ProblemRefused, "no 90 multiples of 90"),
        ("List 9 multiples of 0", ProblemRefused, "no 9 multiples of 0"),
        ("; ".join(["1+1"] * 13), InvalidValue, "expressions: 13"),
        ("3+4; 5/0", InvalidValue, "expression"),
        ("3+4; (5", InvalidValue, "expression"),
        ("shortest paths of the graph 0 5; 4 0", InvalidValue, "graph: 2 rows"),
        ("shortest paths of the graph 0 5 9; 4 0; 7 1 0", InvalidValue, "graph: 3 rows of 3, 2"),
        ("shortest paths of the graph 1 5 9; 4 0 2; 7 1 0", InvalidValue, "graph: row 1"),
        ("shortest paths of the graph 0 5 9; 4 0 0; 7 1 0", InvalidValue, "graph: row 2"),
        ("shortest paths of the graph 0 5 100; 4 0 2; 7 1 0", InvalidValue, "graph: row 1"),
        (f"shortest paths of the graph {'0 1; ' * 9000}0 1", InvalidValue, "graph: 9001 rows"),
        (f"shortest paths of the graph 0 {'9' * 4000} 1; 1 0 1; 1 1 0", InvalidValue, "row 1"),
    ],
)
def test_a_bad_problem_is_refused_in_one_line_that_names_the_field(
    text: str, error: type[ReasonError], field: str
) -> None:
    with pytest.raises(error, match=re.escape(field)) as caught:
        recognise(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
