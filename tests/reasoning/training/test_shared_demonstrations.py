"""Demonstrations of threads that share what they wrote: what is shown is right, and was seen."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import pytest
import torch

from reasoning.language import markup
from reasoning.language.trained import TAUGHT
from reasoning.problems import (
    Arithmetic,
    Countdown,
    Enumeration,
    Problem,
    Several,
    ShortestPaths,
    enumeration,
)
from reasoning.training import lockstep, shared
from reasoning.training.batches import pack
from reasoning.training.demonstrations import TOKEN_IDS, Demonstration, Passage
from reasoning.training.encoding import encode, lay_out
from reasoning.training.shared import LONGEST, SharedDemonstration
from reasoning.values.context import Segment
from reasoning.values.layout import Flat, flatten

Draw = Callable[[random.Random], SharedDemonstration]

LAID: list[Draw] = [
    shared.drawn_each,
    shared.drawn_multiverse,
    shared.drawn_branch,
    shared.drawn_summary,
    lockstep.drawn_worklist,
    lockstep.drawn_listing,
    lockstep.drawn_graph,
]
TOGETHER: list[Draw] = LAID[4:]
kinds = pytest.mark.parametrize("kind", LAID, ids=lambda kind: kind.__name__)
together = pytest.mark.parametrize("kind", TOGETHER, ids=lambda kind: kind.__name__)
claimed = pytest.mark.parametrize("kind", TOGETHER[:2], ids=lambda kind: kind.__name__)


@cache
def drawn(kind: Draw) -> list[SharedDemonstration]:
    rng = random.Random(kind.__name__)
    return [kind(rng) for _ in range(40)]


def words(segment: Segment) -> list[str]:
    return [markup.VOCABULARY[token] for token in segment.tokens]


def text(segment: Segment) -> str:
    return " ".join(words(segment))


def listed(items: str) -> list[str]:
    return [item.partition(" : ")[2] for item in items.removesuffix(" ;").split(" ; ")]


def posed(demonstration: SharedDemonstration) -> Problem:
    """The problem of the prompt."""
    prompt = text(demonstration.segments[0]).removeprefix("<bos> ").removesuffix(" :")
    mode, _, task = prompt.removeprefix(f"{markup.GROUP} ").partition(" ")
    if mode == markup.PARA:
        numbers, _, target = task.partition(" => ")
        return Countdown(numbers=tuple(map(int, numbers.split())), target=int(target))
    if mode == markup.LIST:
        count, _, divisor = task.partition(" : ")
        return Enumeration(count=int(count), divisor=int(divisor))
    if mode == markup.GRAPH:
        rows = [tuple(map(int, row.split())) for row in listed(task)]
        return ShortestPaths(weights=tuple(rows))
    assert mode in (markup.EACH, markup.MULTI, markup.CALC)
    return Several(expressions=tuple(listed(task)))


class Worker(NamedTuple):
    """A worker's words, each with its row in the flat sequence, the openings left out."""

    number: int
    words: list[str]
    rows: list[int]


def workers(demonstration: SharedDemonstration) -> list[Worker]:
    found: dict[int, Worker] = {}
    row = len(demonstration.segments[0])
    for segment in demonstration.segments[1:]:
        said = words(segment)
        if said[0] == markup.WORKER:
            worker = found.setdefault(int(said[1]), Worker(int(said[1]), [], []))
            worker.words.extend(said[5:])
            worker.rows.extend(range(row + 5, row + len(said)))
        row += len(said)
    return list(found.values())


def whole(demonstration: SharedDemonstration) -> list[str]:
    """Each worker's text as a strategy collects it."""
    found: dict[str, str] = {}
    for segment in demonstration.segments[1:]:
        if (said := text(segment)).startswith(markup.WORKER):
            name = said.split()[1]
            found[name] = f"{found.get(name, '')} {said}".strip()
    return list(found.values())


# ---- what every kind promises ------------------------------------------------------------------


@kinds
def test_no_problem_that_is_held_out_is_ever_posed(kind: Draw) -> None:
    for demonstration in drawn(kind):
        problem = posed(demonstration)
        if isinstance(problem, Several):
            assert not any(part.held_out for part in problem.parts)
        else:
            assert isinstance(problem, Countdown | Enumeration | ShortestPaths)
            assert not problem.held_out


EXPRESSION = re.compile(r"[\d+*/() -]+")


@kinds
def test_no_expression_on_the_way_is_held_out(kind: Draw) -> None:
    parts = {
        part.strip()
        for demonstration in drawn(kind)
        for segment in demonstration.segments
        for part in re.split(r"[:;?~,=>]|<[^>]+>", text(segment))
        if EXPRESSION.fullmatch(part.strip()) and len(re.findall(r"[-+*/]", part)) > 2
    }
    assert [one for one in parts if Arithmetic(expression=one).held_out] == []


def test_listings_are_of_other_divisors_than_those_that_are_measured() -> None:
    shown = {
        int(divisor)
        for demonstration in drawn(lockstep.drawn_listing)
        for segment in demonstration.segments
        for divisor in re.findall(r"(\d+) \* \d+ =", text(segment))
    }
    assert len(shown) > 15
    assert shown & enumeration.HELD_OUT == set()


@kinds
def test_each_fits_into_a_row_and_has_a_weight_for_each_token(
    kind: Draw,
) -> None:
    for demonstration in drawn(kind):
        assert len(demonstration) <= LONGEST
        assert len(demonstration.segments) == len(demonstration.weights)
        for segment, weights in zip(demonstration.segments, demonstration.weights, strict=True):
            assert len(segment) == len(weights) == len(segment.steps)
            assert max(segment.tokens) < len(markup.VOCABULARY)


@kinds
def test_what_is_given_has_no_weight_and_what_is_written_has(kind: Draw) -> None:
    given = re.compile(
        r"<worker> \d+ / \d+ :|<path> \d+ :|<think> \d(?: \S+){6}|<conclude>|<summary>"
    )
    for demonstration in drawn(kind):
        assert not any(demonstration.weights[0])
        for segment, weights in zip(
            demonstration.segments[1:], demonstration.weights[1:], strict=True
        ):
            match = given.match(text(segment))
            # Of a path that is cut, a part in its midst follows on nothing.
            opening = len(match[0].split()) if match else 1 if segment.path else 0
            assert not any(weights[:opening])
            assert all(weight > 0 for weight in weights[opening:])


@pytest.mark.parametrize(
    "kind",
    [k for k in LAID if k not in (shared.drawn_branch, *TOGETHER[1:])],
    ids=lambda kind: kind.__name__,
)
def test_every_answer_passes_the_strict_verifier(kind: Draw) -> None:
    answers = 0
    for demonstration in drawn(kind):
        last = text(demonstration.segments[-1])
        assert last.endswith(markup.EOS)
        if markup.NONE in last:  # no path had an answer by then
            assert kind is shared.drawn_summary
            assert not any(markup.ANSWER in text(s) for s in demonstration.segments[:-1])
            continue
        answer = last.rpartition(f"{markup.ANSWER} ")[2].removesuffix(f" {markup.EOS}")
        verdict = posed(demonstration).verify(answer)
        assert verdict is not None
        assert verdict.ok, verdict.reason
        answers += 1
    assert answers >= 20


@together
def test_the_workers_text_is_complete_and_passes_the_verifier(
    kind: Draw,
) -> None:
    for demonstration in drawn(kind):
        problem, texts = posed(demonstration), whole(demonstration)
        form = TAUGHT[problem.domain](problem=problem, encode=lambda text: []).share(len(texts))
        verdict = problem.verify(form.merged(texts) or "")
        assert verdict is not None
        assert verdict.ok, verdict.reason
        assert form.complete(texts)
        assert all(text.count(markup.EOS) == 1 and text.endswith(markup.EOS) for text in texts)


# ---- Multiverse and ParaThinker ----------------------------------------------------------------


def spans(demonstration: SharedDemonstration) -> list[range]:
    ends = list(itertools.accumulate(map(len, demonstration.segments)))
    return [range(a, b) for a, b in itertools.pairwise([0, *ends])]


def sees(flat: Flat, rows: range, columns: range) -> bool:
    return bool(flat.mask[rows.start : rows.stop, columns.start : columns.stop].any())


@pytest.mark.parametrize("kind", [shared.drawn_multiverse, shared.drawn_branch])
def test_branches_start_behind_the_fork_and_do_not_see_each_other(kind: Draw) -> None:
    for demonstration in drawn(kind):
        flat, rows = flatten(demonstration.segments), spans(demonstration)
        fork = rows[1]
        after = int(flat.positions[fork[-1]]) + 1
        branches = [n for n, s in enumerate(demonstration.segments) if words(s)[0] == markup.PATH]
        for branch in branches:
            assert int(flat.positions[rows[branch].start]) == after
            assert bool(flat.mask[rows[branch].start, : fork.stop].all())
            others = [other for other in branches if other != branch]
            assert not any(sees(flat, rows[branch], rows[other]) for other in others)
        if kind is shared.drawn_multiverse:
            last = rows[-1]
            assert text(demonstration.segments[-1]).startswith(markup.CONCLUDE)
            assert int(flat.positions[last.start]) == after + max(len(rows[b]) for b in branches)
            assert bool(flat.mask[last.start, : last.start].all())
            outlined = [word for word in words(demonstration.segments[1]) if word.isdigit()]
            assert outlined == [words(demonstration.segments[branch])[1] for branch in branches]


def test_paths_overlap_are_cut_at_one_place_and_seen_by_the_summary() -> None:
    for demonstration in drawn(shared.drawn_summary):
        flat, rows = flatten(demonstration.segments), spans(demonstration)
        prompt, *parts, last = range(len(demonstration.segments))
        paths = [segment.path for segment in demonstration.segments]
        assert paths[prompt] == paths[last] == 0
        for a, b in itertools.combinations(parts, 2):
            assert sees(flat, rows[b], rows[a]) is (paths[a] == paths[b])
            assert not sees(flat, rows[a], rows[b])
        heads = [n for n in parts if words(demonstration.segments[n])[0] == markup.THINK]
        assert {int(flat.positions[rows[n].start]) for n in heads} == {len(rows[prompt])}
        ends = {paths[n]: int(flat.positions[rows[n][-1]]) for n in parts}
        over = {paths[n] for n in parts if words(demonstration.segments[n])[-1] == markup.THINK_END}
        assert len({end for path, end in ends.items() if path not in over}) <= 1
        assert int(flat.positions[rows[last].start]) == max(ends.values()) + 1
        assert bool(flat.mask[rows[last].start, : rows[last].start].all())


@pytest.mark.parametrize("path", markup.PATHS)
def test_each_path_is_an_exact_search_of_its_own_order(path: int) -> None:
    rng, solved = random.Random(path), 0
    for _ in range(10):
        demonstration = shared.drawn_think(rng)
        assert isinstance(demonstration, Demonstration)
        assert demonstration.head[1].text == f"{markup.THINK} {demonstration.path}"
    for _ in range(10):
        problem = shared.draw_problem(rng, 4)
        written = " ".join(shared._tokens(shared.think(problem.numbers, problem.target, path)))
        assert Counter(map(int, written.partition(" ;")[0].split())) == Counter(problem.numbers)
        if markup.ANSWER in written:
            answer = written.partition(f"{markup.ANSWER} ")[2].removesuffix(f" {markup.THINK_END}")
            assert problem.verify(answer).ok
            solved += 1
    assert solved >= 4


# ---- workers in lock-step ----------------------------------------------------------------------


@together
def test_a_worker_sees_what_was_fed_in_earlier_or_the_same_steps(kind: Draw) -> None:
    for demonstration in drawn(kind)[:12]:
        flat = flatten(demonstration.segments)
        steps = torch.tensor([step for segment in demonstration.segments for step in segment.steps])
        owner = torch.tensor([n for n, s in enumerate(demonstration.segments) for _ in s.tokens])
        own = (owner[:, None] == owner).tril()
        others = (owner[:, None] != owner) & (steps[:, None] >= steps)
        assert torch.equal(flat.mask, own | others)


class Claim(NamedTuple):
    worker: int
    item: int
    step: int
    row: int
    kept: bool


def claims(demonstration: SharedDemonstration) -> list[Claim]:
    steps = [step for segment in demonstration.segments for step in segment.steps]
    found = []
    for worker in workers(demonstration):
        before = [markup.DONE, *worker.words]
        lines = zip(before, worker.words, [*worker.words[1:], ""], worker.rows, strict=False)
        found += [
            Claim(worker.number, int(word), steps[row], row, following == ":")
            for last, word, following, row in lines
            if word.isdigit() and last in (markup.DONE, markup.WAIT)
        ]
    return found


@claimed
def test_a_worker_claims_the_item_behind_the_last_that_it_can_see(kind: Draw) -> None:
    for demonstration in drawn(kind):
        flat, made = flatten(demonstration.segments), claims(demonstration)
        tokens = {claim.row: claim.item for claim in made}
        row_before = [0] * len(demonstration)
        for rows in spans(demonstration):
            for row in rows:
                row_before[row] = row - 1
        for claim in made:  # what it is drawn from is the token before it, and what that sees
            seen = flat.mask[row_before[claim.row]]
            known = [item for row, item in tokens.items() if bool(seen[row])]
            assert claim.item == max(known, default=0) + 1


@claimed
def test_an_item_is_claimed_twice_only_in_one_step_and_done_once(
    kind: Draw,
) -> None:
    for demonstration in drawn(kind):
        problem = posed(demonstration)
        parts = problem.count if isinstance(problem, Enumeration) else len(listed_parts(problem))
        by_item: dict[int, list[Claim]] = {}
        for claim in claims(demonstration):
            by_item.setdefault(claim.item, []).append(claim)
        assert set(by_item) == set(range(1, parts + 1))
        for made in by_item.values():
            assert len({claim.step for claim in made}) == 1
            winner = min(made, key=lambda claim: claim.worker)
            assert [claim for claim in made if claim.kept] == [winner]


def test_of_equal_claims_in_one_step_the_first_worker_keeps_it() -> None:
    progress, texts = lockstep.SharedProgress(), [[Passage("1 + 1 = 2")] for _ in range(4)]
    at_once = [  # nobody waits for those before it
        itertools.islice(lockstep.claiming(w, progress, texts), w - 1, None) for w in (1, 2, 3)
    ]
    demonstration = lockstep.lockstep("", at_once, progress, "slots", random.Random(0))
    made = [(c.worker, c.item, c.kept) for c in sorted(claims(demonstration), key=lambda c: c.step)]
    assert made[:3] == [(1, 1, True), (2, 1, False), (3, 1, False)]
    assert made[3:5] == [(2, 2, True), (3, 2, False)]
    assert made[5] == (3, 3, True)
    assert [item for _, item, kept in made if kept] == [1, 2, 3, 4]


def listed_parts(problem: Problem) -> tuple[str, ...]:
    assert isinstance(problem, Several)
    return problem.expressions


def test_every_line_of_a_graph_is_that_of_floyd_and_warshall() -> None:
    for demonstration in drawn(lockstep.drawn_graph):
        problem = posed(demonstration)
        assert isinstance(problem, ShortestPaths)
        size, lines = len(problem.weights), []
        for worker in workers(demonstration):
            ended = " ".join(worker.words).split(f" {markup.DONE}")[:-1]
            lines += [line.replace(f"{markup.WAIT} ", "").strip() for line in ended]
        done = set()
        for line in lines:
            head, _, body = line.partition(" : ")
            k, i = map(int, head.split())
            done.add((k, i))
            old, new = problem.phases[k - 1], problem.phases[k]
            expected = []
            for j in (j for j in range(1, size + 1) if j != i):
                straight, a, b = old[i - 1][j - 1], old[i - 1][k - 1], old[k - 1][j - 1]
                sum_ = "" if k in (i, j) else f"{straight} ? {a} + {b} = {a + b} "
                expected.append(f"{j} {sum_}: {new[i - 1][j - 1]}")
            assert body == " ".join(expected)
        assert done == {(k, i) for k in range(1, size + 1) for i in range(1, size + 1)}
        assert len(lines) == size * size


# ---- encoding ----------------------------------------------------------------------------------


def test_an_encoding_has_the_layouts_mask_positions_and_paths() -> None:
    for kind in LAID:
        demonstration = drawn(kind)[0]
        flat, encoded = flatten(demonstration.segments), lay_out(demonstration)
        assert encoded.tokens == flat.tokens.tolist()
        assert encoded.positions == flat.positions.tolist()
        assert encoded.mask is not None
        assert torch.equal(encoded.mask, flat.mask)
        assert len(encoded.paths) == len(encoded.weights) == len(demonstration)
        assert any(encoded.paths) is (kind is shared.drawn_summary)


def test_demonstrations_that_share_a_row_do_not_see_each_other() -> None:
    rng = random.Random(0)
    queue = [lay_out(drawn(kind)[n]) for kind in LAID for n in range(3)]
    queue += [encode(shared.drawn_think(rng), 200, rng) for _ in range(3)]
    several = 0
    while queue:
        before = list(queue)
        tokens, _, paths, mask, weights = pack(queue, 1280, TOKEN_IDS[markup.PAD])
        packed = [item for item in before if not any(item is other for other in queue)]
        packed.sort(key=lambda item: (item is not before[0], -len(item.tokens)))
        start = 0
        for item in packed:
            end = start + len(item.tokens)
            assert tokens[start:end].tolist() == item.tokens
            assert paths[start:end].tolist() == item.paths
            assert not mask[start:end, :start].any()
            assert not mask[start:end, end:].any()
            if item.mask is not None:
                assert torch.equal(mask[start:end, start:end], item.mask)
            assert weights[start] == 0
            start = end
        assert torch.equal(mask[start:, start:], torch.eye(1280 - start, dtype=torch.bool))
        assert not weights[start:].any()
        assert set(tokens[start:].tolist()) <= {TOKEN_IDS[markup.PAD]}
        several += len(packed) > 1
    assert several >= 3
