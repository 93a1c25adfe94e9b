"""What strategies promise, on the shipped model and on scripted ones."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence

import anyio
import networkx
import pytest

from orchestrator import Event, TaskAdded, TaskEnded
from orchestrator.errors import InvalidValue, UnknownName
from reasoning import Reasoner, Solution
from reasoning.backends.base import Backend, Generation, Token
from reasoning.errors import CapabilityMissing, ProblemRefused
from reasoning.language import markup
from reasoning.language.forms import Spawn
from reasoning.language.trained import TrainedSpawn
from reasoning.models.loaded import LoadedModel
from reasoning.options import SolveOptions
from reasoning.problems import Countdown, FreeForm, arithmetic, countdown
from reasoning.run.run import Run
from reasoning.run.thread import TextGenerated, Thread
from reasoning.solver import choose_strategy, summarise
from reasoning.strategies import BUILT_IN, STRATEGIES, Apr, SelfConsistency
from reasoning.values.capabilities import Capability
from reasoning.values.context import Gang, Segment
from reasoning.values.sampling import Sampling

pytestmark = pytest.mark.anyio

PROBLEM = Countdown(numbers=(3, 10, 21, 23), target=50)


class Scripted(Backend):
    """A backend whose threads write what a function of their prompt says, one token a turn."""

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, model: LoadedModel, script: Callable[[str], list[str]]) -> None:
        self.model = model
        self.script = script
        self.prompts: list[str] = []
        self.closed = 0

    def open(
        self,
        segment: Segment,
        sampling: Sampling,
        *,
        stop: Collection[int] = (),
        limit: int | None = None,
        gang: Gang | None = None,
    ) -> Generation:
        decoder = self.model.dialect.decoder()
        text = "".join(decoder.feed(token) for token in segment.context.tokens)
        self.prompts.append(text)
        return ScriptedGeneration(self, self.script(text))


class ScriptedGeneration(Generation):
    def __init__(self, backend: Scripted, turns: list[str]) -> None:
        self.backend = backend
        self.turns = turns

    async def tokens(self) -> AsyncIterator[Token]:
        tokens = self.backend.model.dialect.encode(self.turns.pop(0))
        for index, token in enumerate(tokens):
            await anyio.lowlevel.checkpoint()
            yield Token(token, -0.5, "stop" if index == len(tokens) - 1 else None)

    def extend(self, tokens: Sequence[int]) -> None:
        pass

    def resume(self, segment: Segment) -> None:
        pass

    def close(self) -> None:
        self.backend.closed += 1


def scripted_run(model: LoadedModel, script: Callable[[str], list[str]]) -> tuple[Run, Scripted]:
    backend = Scripted(model, script)
    run = Run(problem=PROBLEM, backend=backend, dialect=model.dialect, max_tokens=512)
    return run, backend


async def solved(shipped: LoadedModel, problem: str | Countdown, **options: object) -> Solution:
    async with Reasoner(shipped) as reasoner:
        return await reasoner.solve(problem, **options)  # type: ignore[arg-type]


async def test_apr_gives_each_child_its_message_and_the_parent_their_answers(
    shipped: LoadedModel,
) -> None:
    answer = f"{markup.ANSWER} 23 - 3 = 20 , 30 + 20 = 50 {markup.EOS}"

    def script(prompt: str) -> list[str]:
        if "3 10 21 23" in prompt:
            first = "1 : 10 * 3 = 30 <spawn> 21 23 30 => 50 ;"
            second = "2 : 21 + 3 = 24 <spawn> 10 23 24 => 50 ;"
            return [f"{first} {second} {markup.JOIN}", f"{markup.NONE} {markup.EOS}"]
        return [answer if "21 23 30" in prompt else f"{markup.NONE} {markup.EOS}"]

    run, backend = scripted_run(shipped, script)
    tally = await Apr(n=9).solve(run)
    assert backend.prompts == [
        "<bos> <apr> 9 : 3 10 21 23 => 50 :",
        "<bos> <apr> 9 : 21 23 30 => 50 :",
        "<bos> <apr> 9 : 10 23 24 => 50 :",
    ]
    assert " 1 : 10 * 3 = 30 , 23 - 3 = 20 , 30 + 20 = 50 ; </join>" in run.threads["1"].text
    assert "2 :" not in run.threads["1"].text.partition(markup.JOIN)[2]
    assert tally.winner is None
    assert tally.abstained == 1
    assert backend.closed == 3


async def test_a_thread_whose_context_was_too_small_says_so(shipped: LoadedModel) -> None:
    five = Countdown(numbers=(3, 10, 21, 23), target=50)
    whole = await solved(shipped, five, strategy="apr")
    assert not any(thread.cut for thread in whole.threads)
    parent = whole.threads[0]
    # Room for what the parent writes, but not for its children's answers.
    less = await solved(shipped, five, strategy="apr", max_tokens=parent.context - 25)
    assert less.threads[0].cut
    assert less.threads[0].context < parent.context - 25


async def test_apr_never_opens_more_children_than_the_budget(shipped: LoadedModel) -> None:
    lines = " ".join(f"{i} : 1 + 1 = 2 <spawn> {i} 2 3 => 50 ;" for i in range(1, 9))

    def script(prompt: str) -> list[str]:
        if "3 10 21 23" in prompt:
            return [f"{lines} {markup.JOIN}"] * 3 + [f"{markup.NONE} {markup.EOS}"]
        return [f"{markup.NONE} {markup.EOS}"]

    run, backend = scripted_run(shipped, script)
    await Apr(n=10).solve(run)
    assert len(backend.prompts) == 1 + 10


async def test_children_may_spawn_in_turn(shipped: LoadedModel) -> None:
    def script(prompt: str) -> list[str]:
        if "3 10 21 23" in prompt:
            return [
                f"1 : 1 + 1 = 2 <spawn> 1 2 3 4 => 50 ; {markup.JOIN}",
                f"{markup.ANSWER} 1 + 1 = 2 {markup.EOS}",
            ]
        if "1 2 3 4" in prompt:
            return [
                f"1 : 1 + 1 = 2 <spawn> 9 9 9 => 50 ; {markup.JOIN}",
                f"{markup.NONE} {markup.EOS}",
            ]
        return [f"{markup.NONE} {markup.EOS}"]

    run, _ = scripted_run(shipped, script)
    await Apr(n=4).solve(run)
    assert list(run.threads) == ["1", "1.1", "1.1.1"]
    graph = run.graph.to_networkx()
    assert networkx.is_directed_acyclic_graph(graph)
    assert list(networkx.topological_sort(graph)) == ["1", "1.1", "1.1.1"]


def test_a_message_asked_for_twice_is_spawned_once() -> None:
    text = (
        " 21 3 ; 1 : 10 * 3 = 30 <spawn> 21 23 30 => 50 ; 2 : 9 + 9 = 18 <spawn> 1 2 => 5 ;"
        " 3 : 3 * 10 = 30 <spawn> 21 23 30 => 50 ; <join>"
    )
    assert TrainedSpawn(encode=list, message="").spawns(text) == [
        Spawn("1", "10 * 3 = 30", "21 23 30 => 50"),
        Spawn("2", "9 + 9 = 18", "1 2 => 5"),
    ]


async def test_self_consistency_takes_the_majority_and_counts_abstentions(
    shipped: LoadedModel,
) -> None:
    answers = iter(["10 * 5 = 50", "5 * 10 = 50", "25 + 25 = 50", None])

    def script(prompt: str) -> list[str]:
        found = next(answers)
        return [f"{markup.ANSWER} {found} {markup.EOS}" if found else f"{markup.NONE} <eos>"]

    run, _ = scripted_run(shipped, script)
    tally = await SelfConsistency(n=4).solve(run)
    assert tally.votes == {"(10*5)": 2, "(25+25)": 1}
    assert tally.confidence == 0.5


async def test_the_shared_prompt_is_counted_once_as_work(shipped: LoadedModel) -> None:
    solution = await solved(shipped, "Compute 2 + 3 * 4", strategy="self-consistency", n=8)
    prompt = len(shipped.dialect.prompt(solution.problem))
    assert solution.usage.prompt_tokens == prompt
    assert solution.usage.completion_tokens == sum(t.tokens for t in solution.threads)
    assert solution.usage.span_tokens == prompt + max(t.tokens for t in solution.threads)


async def test_single_has_a_span_equal_to_its_work(shipped: LoadedModel) -> None:
    solution = await solved(shipped, PROBLEM, strategy="single", max_tokens=256)
    assert solution.usage.span_tokens == solution.usage.work_tokens
    assert [thread.id for thread in solution.threads] == ["1"]


async def test_apr_splits_a_problem_and_its_span_is_below_its_work(shipped: LoadedModel) -> None:
    solution = await solved(shipped, PROBLEM)
    assert solution.strategy == "apr"
    assert solution.verified
    assert len(solution.threads) > 1
    assert solution.usage.span_tokens < solution.usage.work_tokens
    assert {thread.parent for thread in solution.threads} == {None, "1"}


@pytest.mark.parametrize("strategy", ["single", "self-consistency", "apr"])
async def test_the_same_seed_gives_the_same_threads(shipped: LoadedModel, strategy: str) -> None:
    problem = countdown.generate(random.Random(4), held_out=True)
    options = {"strategy": strategy, "n": None if strategy == "single" else 6}
    first, again = [
        await solved(shipped, problem, temperature=1.2, seed=3, max_tokens=200, **options)
        for _ in range(2)
    ]
    other = await solved(shipped, problem, temperature=1.2, seed=4, max_tokens=200, **options)
    assert [t.text for t in first.threads] == [t.text for t in again.threads]
    assert [t.text for t in first.threads] != [t.text for t in other.threads]


async def test_a_timeout_stops_every_thread_and_keeps_what_they_wrote(shipped: LoadedModel) -> None:
    five = countdown.generate(random.Random(1), count=5)
    async with Reasoner(shipped) as reasoner:
        solution = await reasoner.solve(five, strategy="single", max_tokens=4096, timeout=1.0)
        assert solution.status in {"timed-out", "finished"}
        assert solution.threads[0].tokens > 0
        if solution.status == "timed-out":
            assert solution.threads[0].state == "cancelled"
        again = await reasoner.solve("Compute 2 + 3 * 4", strategy="single")
        assert again.status == "finished"
    assert shipped.backend.engine.running == 0
    assert shipped.backend.engine.open_threads == 0


async def test_cancelling_a_run_from_outside_ends_it_with_what_was_found(
    shipped: LoadedModel,
) -> None:
    scope = anyio.CancelScope()
    seen = 0

    def listen(event: Event) -> None:
        nonlocal seen
        seen += isinstance(event, TextGenerated)
        if seen == 40:
            scope.cancel()

    five = countdown.generate(random.Random(2), count=5)
    solution = await solved(shipped, five, strategy="apr", cancel_scope=scope, listener=listen)
    assert solution.status == "interrupted"
    assert sum(thread.tokens for thread in solution.threads) >= 40
    assert all(thread.state in {"cancelled", "succeeded"} for thread in solution.threads)
    assert shipped.backend.engine.open_threads == 0


async def test_after_a_stop_at_most_a_few_tokens_of_each_thread_are_lost(
    shipped: LoadedModel,
) -> None:
    prompt = shipped.dialect.prompt(countdown.generate(random.Random(2), count=5))
    async with shipped.backend as backend, anyio.create_task_group() as group:

        async def ten(seed: int) -> None:
            sampling = Sampling(temperature=1.0, seed=seed)
            generation = backend.open(Segment(prompt), sampling, limit=2000)
            count = 0
            async for _ in generation.tokens():
                count += 1
                if count == 10:
                    break
            generation.close()

        for seed in range(8):
            group.start_soon(ten, seed)
    assert shipped.backend.engine.open_threads == 0
    assert backend.leaked <= 8 * 3


async def test_a_reasoner_that_was_not_entered_says_so(shipped: LoadedModel) -> None:
    with pytest.raises(InvalidValue, match="async with"):
        await Reasoner(shipped).solve("Compute 2 + 3")


async def test_threads_one_after_the_other_pay_for_a_shared_prompt_once(
    shipped: LoadedModel,
) -> None:
    async with shipped.backend as backend:
        run = Run(problem=PROBLEM, backend=backend, dialect=shipped.dialect, max_tokens=24)
        prompt = shipped.dialect.prompt(PROBLEM)

        async def write(thread: Thread) -> None:
            await thread.write()

        async with run.graph:
            await run.spawn(write, prompt).result()
            await run.spawn(write, prompt).result()
    given = run.graph.work - sum(thread.written for thread in run.threads.values())
    assert given == len(prompt)


async def test_an_answer_that_cannot_vote_is_not_given(shipped: LoadedModel) -> None:
    def script(prompt: str) -> list[str]:
        return [f"{markup.ANSWER} 5 + {markup.EOS}"]

    run, _ = scripted_run(shipped, script)
    tally = await SelfConsistency(n=2).solve(run)
    assert tally.winner is None
    assert summarise(run, SelfConsistency(n=2), tally, "m", "finished", 0.0).answer is None


async def test_a_run_that_has_ended_leaves_no_keys_and_values_behind(shipped: LoadedModel) -> None:
    async with Reasoner(shipped) as reasoner:
        solutions = [await reasoner.solve(PROBLEM, strategy=name) for name in ("apr", "single")]
    shipped.backend.engine.segments.sweep()
    assert shipped.backend.engine.pool.used == 0
    assert all(solution.verified for solution in solutions)


async def test_an_engine_has_one_driver_at_a_time(shipped: LoadedModel) -> None:
    async with Reasoner(shipped):
        with pytest.raises(InvalidValue, match="share one Reasoner"):
            async with Reasoner(shipped):
                pass
    assert (await solved(shipped, "Compute 2 + 3", strategy="single")).status == "finished"


async def test_events_tell_each_thread_from_its_start_to_its_end(shipped: LoadedModel) -> None:
    events: list[Event] = []
    solution = await solved(shipped, PROBLEM, listener=events.append)
    for thread in solution.threads:
        mine = [event for event in events if event.task == thread.id]
        assert isinstance(mine[0], TaskAdded)
        assert isinstance(mine[-1], TaskEnded)
        written = "".join(event.text for event in mine if isinstance(event, TextGenerated))
        assert sum(isinstance(event, TextGenerated) for event in mine) == thread.tokens
        assert thread.text.startswith(written[:20])


def test_strategies_and_models_are_matched_before_anything_runs(shipped: LoadedModel) -> None:
    sum_ = arithmetic.generate(random.Random(0))
    assert choose_strategy(SolveOptions(), shipped, PROBLEM).name == "apr"
    assert choose_strategy(SolveOptions(), shipped, sum_).name == "self-consistency"
    with pytest.raises(UnknownName, match="choose single"):
        choose_strategy(SolveOptions(strategy="magic"), shipped, PROBLEM)
    with pytest.raises(InvalidValue, match="n: 0"):
        choose_strategy(SolveOptions(strategy="apr", n=0), shipped, PROBLEM)
    with pytest.raises(InvalidValue, match="single takes 1 to 1"):
        choose_strategy(SolveOptions(strategy="single", n=4), shipped, PROBLEM)
    assert {kind.name for kind in BUILT_IN} == set(STRATEGIES.names)


async def test_what_a_model_lacks_is_refused_by_name(general: LoadedModel) -> None:
    with pytest.raises(CapabilityMissing, match="spawn-join"):
        choose_strategy(SolveOptions(strategy="apr"), general, PROBLEM)


async def test_problems_that_the_shipped_model_cannot_do_are_refused(shipped: LoadedModel) -> None:
    with pytest.raises(ProblemRefused, match="name a model with --model"):
        await solved(shipped, FreeForm(question="Why?"), strategy="single")
    with pytest.raises(ProblemRefused, match="0 to 999"):
        await solved(shipped, "Compute 99 * 99", strategy="single")
    with pytest.raises(ProblemRefused, match="non-negative"):
        await solved(shipped, "Compute 3 - 4", strategy="single")
    with pytest.raises(ProblemRefused, match="self-consistency"):
        await solved(shipped, "Compute 3 + 4", strategy="apr")
    with pytest.raises(InvalidValue, match="apr takes 1 to 32"):
        await solved(shipped, PROBLEM, strategy="apr", n=33)


@pytest.mark.parametrize("strategy", ["single", "self-consistency"])
async def test_any_chat_model_folder_runs_with_its_template(
    general: LoadedModel, strategy: str
) -> None:
    problem = FreeForm(question="Why?")
    prompt = general.dialect.prompt(problem)
    decoder = general.dialect.decoder()
    text = "".join(decoder.feed(token) for token in prompt.tokens)
    assert "<|user|>" in text
    assert "boxed" in text
    async with Reasoner(general) as reasoner:
        solution = await reasoner.solve(problem, strategy=strategy, max_tokens=len(prompt) + 20)
    assert solution.verified is None
    assert all(thread.tokens <= 20 for thread in solution.threads)


def test_a_general_models_answer_says_where_it_stood(general: LoadedModel) -> None:
    read = general.dialect.answer
    boxed = read(PROBLEM, r"thus \boxed{\frac{1}{2}}, done")
    assert (boxed.answer, boxed.source) == (r"\frac{1}{2}", "box")
    stated = read(PROBLEM, "The final answer is 7. I used 3 numbers.")
    assert (stated.answer, stated.source) == ("7", "cue")
    cut = read(PROBLEM, r"unfinished \boxed{12", finished=False)
    assert (cut.answer, cut.source, cut.complete) == (None, "none", False)
