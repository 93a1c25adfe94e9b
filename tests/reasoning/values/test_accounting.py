"""What branches cost and save, as papers count it: examples worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import Task
from reasoning.run.thread import Thread, ThreadOptions
from reasoning.strategies import Multiverse, ParaThinker, SelfConsistency, Single
from reasoning.values.accounting import BlockTags, BlockTokens, ParallelStats
from reasoning.values.context import Context
from tests.support.sharing_tools import END, Letters, Script, ids, scripted_run

TAGS = BlockTags(opens=ord("["), closes=ord("]"), branch=ord("("), branch_end=ord(")"))


@pytest.mark.parametrize(
    ("response", "tokens", "longest", "inside"),
    [
        ("", 0, 0, 0),
        ("abc", 3, 3, 0),
        # ab [ oo ( 1a ) ( 2bcd ) _ ] cd: the wrappers of both branches, and of these the longer one
        ("ab[oo(1a)(2bcd)_]cd", 19, 17, 13),
        ("[(a)(b)][(aa)(bbbb)]", 20, 17, 16),
        # What is not closed ends with the response; inner and stray tags are tokens like others.
        ("a[o(xyz", 7, 7, 5),
        ("a[(x)(yyy", 9, 8, 7),
        ("[(a(b[c]d)(e)]", 14, 13, 12),
        ("a)]b(c[)]", 9, 9, 1),
    ],
)
def test_a_merged_response_is_counted_by_its_tags(
    response: str, tokens: int, longest: int, inside: int
) -> None:
    assert BlockTokens.of(map(ord, response), TAGS) == (tokens, longest, inside)


@given(st.text(alphabet="[]()ab", max_size=40))
def test_any_response_is_at_least_as_long_as_its_longest_thread(response: str) -> None:
    found = BlockTokens.of(map(ord, response), TAGS)
    assert found.tokens == len(response)
    assert found.tokens - found.parallel_tokens <= found.longest_thread <= found.tokens


def forking(seen: str, own: str) -> str:
    """A trunk of 3 tokens, branches of 3 and 5, and a conclusion of 3."""
    if not own:
        return "ab^"
    return {"a:": "xy.", "b:": "wxyz.", "C": f"=7{chr(END)}"}[own]


@pytest.mark.anyio
async def test_a_fork_counts_its_longest_branch_and_the_words_given() -> None:
    run = scripted_run(Script(forking, "kv-join"))
    await Multiverse().solve(run)
    found = run.parallel
    assert found == ParallelStats(
        tokens=3 + (2 + 3) + (2 + 5) + (1 + 3),  # each branch is given two words, the join one
        longest_thread=3 + (2 + 5) + (1 + 3),
        parallel_tokens=(2 + 3) + (2 + 5),
        written=3 + 3 + 5 + 3,
        critical_path=3 + 5 + 3,
    )
    assert found.acceleration == pytest.approx(5 / 19)
    assert found.parallel_ratio == pytest.approx(12 / 19)
    assert found.degree == pytest.approx(14 / 11)


@pytest.mark.anyio
async def test_a_text_join_counts_no_token_twice() -> None:
    run = scripted_run(Script(forking))
    await Multiverse().solve(run)
    assert run.emulated == {"text-join"}
    assert run.parallel.tokens == 19


@pytest.mark.anyio
async def test_a_summary_follows_the_longest_path() -> None:
    def say(seen: str, own: str) -> str:
        return {"1:": "=3.", "2:": "b=4.", "S": f"=4{chr(END)}"}[own]

    run = scripted_run(Script(say, "kv-join"))
    await ParaThinker(n=2, need=2).solve(run)
    found = run.parallel
    assert (found.tokens, found.longest_thread) == (5 + 6 + 4, 6 + 4)
    assert (found.parallel_tokens, found.critical_path) == (5 + 6, 4 + 3)


@pytest.mark.anyio
async def test_one_thread_is_serial_and_samples_are_all_parallel() -> None:
    script = Script(lambda seen, own: f"=7{chr(END)}", "prefix-sharing", "continuing")
    single, many = scripted_run(script), scripted_run(script)
    await Single().solve(single)
    await SelfConsistency(n=3).solve(many)
    alone = single.parallel
    assert (alone.acceleration, alone.parallel_ratio, alone.degree) == (0, 0, 1)
    found = many.parallel
    assert (found.tokens, found.longest_thread, found.parallel_tokens) == (9, 3, 9)


@pytest.mark.anyio
async def test_a_run_without_a_token_has_shares_of_nothing() -> None:
    found = scripted_run(Script(forking)).parallel
    assert (found.acceleration, found.parallel_ratio, found.degree) == (0, 0, 1)


@pytest.mark.anyio
async def test_a_models_own_tags_are_counted_instead_where_a_strategy_says_so() -> None:
    run = scripted_run(Script(forking, "kv-join"))
    await Multiverse().solve(run)
    run.blocks = BlockTokens.of(map(ord, "ab[oo(1a)(2bcd)_]cd"), TAGS)
    assert (run.parallel.tokens, run.parallel.longest_thread) == (19, 17)
    assert (run.parallel.written, run.parallel.critical_path) == (14, 11)


@pytest.mark.anyio
async def test_nested_forks_wait_for_the_longest_chain_through_both() -> None:
    """1 writes 2; 1.1 writes 1, forks into 4 and 2, and adds 1; 1.2 writes 7; 1 adds 3."""
    written = {"p": "..", "a": ".", "c": "....", "d": "..", "b": ".......", "A": ".", "P": "..."}
    script = Script(lambda seen, own: written[own], "kv-join")
    run = scripted_run(script, Letters(stop=frozenset(ids("."))))

    async def write(thread: Thread, below: str = "") -> Context:
        await thread.write()
        if below:
            base = thread.end
            tasks = [fork(thread, base, one) for one in below]
            ends = [await task.result() for task in tasks]
            assert thread.resume(base.join(ends), {"p": "P", "a": "A"}[thread.text[0]])
            await thread.write()
        return thread.end

    def fork(thread: Thread, base: Context, opening: str) -> Task[Context]:
        below = {"a": "cd"}.get(opening, "")
        options = ThreadOptions(opening=opening)
        return thread.run.spawn(write, base, below, name=opening, options=options)

    async with run.graph:
        run.spawn(write, Context.given([1]), "ab", name="p", options=ThreadOptions(opening="p"))
    found = run.parallel
    assert found.written == 2 + 1 + 4 + 2 + 1 + 7 + 3
    assert found.critical_path == 2 + 7 + 3  # through 1.2
    assert found.tokens == found.written + len("pacdbAP")
    # With the words that were given, 1.1 and its longer branch are the longer chain.
    assert found.longest_thread == (1 + 2) + (1 + 1) + (1 + 4) + (1 + 1) + (1 + 3)
