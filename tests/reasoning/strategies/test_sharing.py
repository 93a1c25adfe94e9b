"""Threads that share what they wrote: who sees whom, what crosses a join, what it costs."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from click.testing import CliRunner

from orchestrator import Event
from orchestrator.errors import InvalidValue
from protocol import Report
from reasoning import Reasoner, Solution
from reasoning.backends.embedded import Delivery, EmbeddedBackend
from reasoning.cli import main
from reasoning.engine.engine import Engine
from reasoning.errors import CapabilityMissing
from reasoning.models.loaded import LoadedModel
from reasoning.options import SolveOptions
from reasoning.pool import PoolModel
from reasoning.run.run import ForkRefused
from reasoning.run.thread import TextGenerated
from reasoning.solver import choose_strategy
from reasoning.strategies import GroupThink, Hogwild, Multiverse, ParaThinker
from tests.support.sharing_tools import (
    QUESTION,
    SOME,
    Fork,
    Letters,
    Paths,
    Script,
    Share,
    Turn,
    letter_model,
    random_folder,
    scripted_run,
)

pytestmark = pytest.mark.anyio

JOINS = "kv-join"
LIVE = "live-contexts"


# ---- Multiverse --------------------------------------------------------------------------------


def forking(seen: str, own: str) -> str:
    if own == "":
        return "ab^"
    return {"a:": "first.", "b:": "2nd."}.get(own, "=7\0")


async def test_branches_see_the_text_before_the_fork_and_the_conclusion_all() -> None:
    script = Script(forking, JOINS)
    run = scripted_run(script)
    tally = await Multiverse(n=4).solve(run)
    assert script.turns == [
        Turn("Prompt", "", 6),
        Turn("Promptab^", "a:", 9),
        Turn("Promptab^", "b:", 9),
        Turn("Promptab^a:first.b:2nd.", "C", 9 + len("a:first.")),
    ]
    assert tally.winner == "7"
    assert run.emulated == set()
    assert script.open_threads == 0


async def test_without_key_joins_branches_are_joined_as_text_and_reported() -> None:
    script = Script(forking)
    run = scripted_run(script)
    await Multiverse(n=4).solve(run)
    assert script.turns[-1] == Turn("Promptab^a:first.b:2nd.", "C", 9 + 8 + 6)
    assert run.emulated == {"text-join"}


async def test_branches_that_are_joined_cost_their_tokens_once() -> None:
    generated = len("ab^") + len("first.") + len("2nd.") + len("=7\0")
    given = len("Prompt") + len("a:b:") + len("C")
    span = len("Prompt") + len("ab^") + len("a:first.") + len("C=7\0")
    for capabilities, again in (((JOINS,), 0), ((), len("a:first.b:2nd."))):
        script = Script(forking, *capabilities)  # type: ignore[arg-type]
        run = scripted_run(script)
        await Multiverse(n=4).solve(run)
        assert run.graph.work == generated + given + again
        assert run.graph.span == span + again
        assert run.threads["1"].chain == len("ab^") + len("first.") + len("=7\0")


async def test_branches_may_fork_in_turn() -> None:
    def say(seen: str, own: str) -> str:
        if own in ("", "a:"):
            return "ab^" if own == "" else "cd^"
        return "=1\0" if own == "C" and "C" not in seen else "x."

    script = Script(say, JOINS)
    run = scripted_run(script)
    await Multiverse(n=4).solve(run)
    assert list(run.threads) == ["1", "1.1", "1.2", "1.1.1", "1.1.2"]
    seen = {turn.own: turn.seen for turn in script.turns if turn.own != "C"}
    assert seen["c:"] == "Promptab^a:cd^"
    inner, outer = (turn for turn in script.turns if turn.own == "C")
    assert inner.seen == "Promptab^a:cd^c:x.d:x."
    assert outer.seen == "Promptab^a:cd^c:x.d:x.C=1\0b:x."


async def test_a_malformed_fork_is_refused_and_the_thread_goes_on_by_itself() -> None:
    told = []
    script = Script(lambda seen, own: "a^" if own == "" else "=5\0", JOINS)
    run = scripted_run(script)
    run.events.subscribe(told.append)
    tally = await Multiverse(n=4).solve(run)
    refused = [event.reason for event in told if isinstance(event, ForkRefused)]
    assert refused == [run.fork_refused] == ["it has fewer than two parts"]
    assert tally.winner == "5"
    assert len(run.threads) == 1
    assert run.graph.span == run.graph.work


async def test_of_too_many_parts_the_first_are_taken() -> None:
    script = Script(lambda seen, own: "abcdefgh^" if own == "" else "=5.", JOINS)
    run = scripted_run(script)
    await Multiverse(n=4).solve(run)
    assert [turn.own for turn in script.turns[1:5]] == ["a:", "b:", "c:", "d:"]
    assert run.fork_refused is None


async def test_forks_are_refused_beyond_three_levels_and_without_room() -> None:
    told: list[Event] = []

    def deeper(seen: str, own: str) -> str:
        return ".\0" if own and own[-1] == "^" else "cd^" if own != "C" else "\0"

    run = scripted_run(Script(deeper, JOINS))
    run.events.subscribe(told.append)
    await Multiverse(n=4).solve(run)
    assert max(id.count(".") for id in run.threads) == 3
    assert {e.reason for e in told if isinstance(e, ForkRefused)} == {"forks are 3 deep already"}

    told.clear()
    run = scripted_run(Script(forking, JOINS), max_tokens=84)
    run.events.subscribe(told.append)
    await Multiverse(n=4).solve(run)
    assert [e.reason for e in told if isinstance(e, ForkRefused)] == ["only 63 tokens are left"]


async def test_a_thread_without_room_after_a_refused_fork_ends() -> None:
    script = Script(lambda seen, own: "a^", JOINS)
    run = scripted_run(script, max_tokens=40)
    with anyio.fail_after(5):
        await Multiverse(n=4).solve(run)
    assert run.threads["1"].cut
    assert run.threads["1"].written < 40


# ---- ParaThinker -------------------------------------------------------------------------------


@pytest.mark.parametrize(("need", "finished"), [(1, 1), (2, 2), (9, 3)])
async def test_the_summary_is_written_when_enough_paths_have_an_answer(
    need: int, finished: int
) -> None:
    def say(seen: str, own: str) -> str:
        if own == "S":
            return "=9\0"
        return {"1:": "slow" * 8 + "=1.", "2:": "=2.", "3:": "middle=3."}[own]

    script = Script(say, JOINS)
    run = scripted_run(script)
    tally = await ParaThinker(n=3, need=need).solve(run)
    final = script.turns[-1]
    assert final.own == "S"
    assert final.seen.count("=") == finished
    assert final.seen.startswith("Prompt1:sl")
    assert tally.winner == "9"
    paths = [thread.written for thread in run.threads.values() if "." in thread.task.id]
    assert final.home == len("Prompt") + len("1:") + max(paths)
    assert list(run.threads) == ["1.1", "1.2", "1.3", "1"]
    assert run.threads["1"].chain == max(paths) + len("=9\0")


async def test_every_path_sees_the_prompt_and_itself_only() -> None:
    script = Script(lambda seen, own: "=1.", JOINS)
    await ParaThinker(n=3, need=3).solve(scripted_run(script))
    assert script.turns[:3] == [Turn("Prompt", f"{path}:", 6) for path in (1, 2, 3)]


# ---- Hogwild! and Group Think, in turns --------------------------------------------------------


@pytest.mark.parametrize("kind", [Hogwild, GroupThink])
@pytest.mark.parametrize("blind", [False, True])
async def test_without_live_contexts_workers_see_finished_steps_and_that_is_said(
    kind: type[Hogwild | GroupThink], blind: bool
) -> None:
    def say(seen: str, own: str) -> str:
        if own == "1:":
            return "\0" if "1:" in seen else "a long one."
        return "no second\0" if "2:" in seen else "two."

    script = Script(say, JOINS)
    run = scripted_run(script)
    await kind(n=2, blind=blind).solve(run)
    assert run.emulated == {"step-wise"}
    assert script.turns == [
        Turn("Prompt", "1:", 6),
        Turn("Prompt", "2:", 6),
        Turn("Prompt2:two.", "2:", 12),
        Turn("Prompt1:a long one.", "1:", 19)
        if blind
        else Turn("Prompt2:two.1:a long one.", "1:", 25),
    ]


async def test_without_live_contexts_a_blind_worker_sees_all_of_its_own_steps() -> None:
    def say(seen: str, own: str) -> str:
        return "\0" if seen.count("1:") == 2 else "a."

    script = Script(say, JOINS)
    await Hogwild(n=1, blind=True).solve(scripted_run(script))
    assert [turn.seen for turn in script.turns] == ["Prompt", "Prompt1:a.", "Prompt1:a.1:a."]


async def test_a_finisher_reads_all_that_the_workers_wrote() -> None:
    def say(seen: str, own: str) -> str:
        return "=3\0" if own == "F" else f"{own[0]}{own[0]}\0"

    script = Script(say, JOINS)
    run = scripted_run(script, Letters(share_form=Share(finisher="F")))
    tally = await Hogwild(n=2).solve(run)
    assert script.turns[-1].seen == "Prompt1:11\x002:22\0"
    assert tally.winner == "3"


# ---- on the engine, with a random model --------------------------------------------------------


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.load(random_folder(tmp_path_factory.mktemp("letters")))


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.load(random_folder(tmp_path_factory.mktemp("endless"), eos_token_id=None))


def anything() -> Letters:
    """Forms for a model that writes anything."""
    return Letters(
        fork_form=Fork(parts=3),
        path_form=Paths(stop=SOME, any=True),
        share_form=Share(at=SOME, check="?"),
    )


ARMS: dict[str, dict[str, Any]] = {
    "multiverse": {"n": 3},
    "parathinker": {"n": 4},
    "hogwild": {"n": 3},
    "group-think": {"n": 3},
}
arms = pytest.mark.parametrize("strategy", ARMS)


async def solved(
    engine: Engine, strategy: str, kind: type[EmbeddedBackend] = EmbeddedBackend, **options: Any
) -> Solution:
    async with Reasoner(letter_model(engine=engine, dialect=anything(), kind=kind)) as reasoner:
        return await reasoner.solve(
            QUESTION, **{"strategy": strategy, "temperature": 1.0, **ARMS[strategy], **options}
        )


def nothing_left(engine: Engine) -> bool:
    engine.segments.sweep()
    return engine.pool.used == engine.open_threads == engine.running == 0


def told(solution: Solution) -> list[Any]:
    usage = solution.usage
    texts: list[Any] = [(thread.id, thread.text) for thread in solution.threads]
    return [*texts, usage.work_tokens, usage.span_tokens, solution.parallelism]


@arms
async def test_the_same_seed_gives_the_same_threads_and_work(engine: Engine, strategy: str) -> None:
    first, again, other = [await solved(engine, strategy, seed=seed) for seed in (3, 3, 4)]
    assert first.status == "finished"
    assert told(first) == told(again)
    assert told(first) != told(other)
    assert first.emulated == ()
    assert nothing_left(engine)


@arms
async def test_a_run_beside_others_is_the_same_as_alone(engine: Engine, strategy: str) -> None:
    alone = [await solved(engine, strategy, seed=seed) for seed in range(4)]
    found: dict[int, Solution] = {}
    slots, engine.slots = engine.slots, 8  # so that cohorts have to wait for each other
    try:
        async with Reasoner(letter_model(engine=engine, dialect=anything())) as reasoner:

            async def one(seed: int) -> None:
                found[seed] = await reasoner.solve(
                    QUESTION, strategy=strategy, temperature=1.0, seed=seed, **ARMS[strategy]
                )

            async with anyio.create_task_group() as group:
                for seed in range(4):
                    group.start_soon(one, seed)
    finally:
        engine.slots = slots
    assert [told(found[seed]) for seed in range(4)] == [told(solution) for solution in alone]


@arms
async def test_an_event_loop_that_is_behind_changes_nothing(engine: Engine, strategy: str) -> None:
    rng = random.Random(1)

    def dawdle(event: Event) -> None:
        if rng.random() < 0.1:
            time.sleep(rng.random() / 100)  # meanwhile the engine goes on

    for seed in range(3):
        plain = await solved(engine, strategy, seed=seed)
        late = await solved(engine, strategy, seed=seed, listener=dawdle)
        assert told(late) == told(plain)


class Jumbled(EmbeddedBackend):
    """Tokens of one step arrive in any order, some of them late."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.rng = random.Random(2)
        self.late: list[Delivery] = []

    def _deliver(self, out: list[Delivery]) -> None:
        self.late += out
        first: dict[Any, Delivery] = {}
        for delivery in self.late:
            first.setdefault(delivery[0], delivery)
        now = [delivery for delivery in first.values() if self.rng.random() < 0.5]
        self.rng.shuffle(now)
        self.late = [delivery for delivery in self.late if delivery not in now]
        super()._deliver(now)
        if self.late:
            self._loop.call_soon(self._deliver, [])


@arms
async def test_the_order_in_which_tokens_arrive_changes_nothing(
    engine: Engine, strategy: str
) -> None:
    for seed in range(4):
        plain = await solved(engine, strategy, seed=seed)
        jumbled = await solved(engine, strategy, seed=seed, kind=Jumbled)
        assert told(jumbled) == told(plain)


@arms
async def test_work_and_span_are_those_of_the_threads(engine: Engine, strategy: str) -> None:
    solution = await solved(engine, strategy, seed=5)
    usage = solution.usage
    assert usage.completion_tokens == sum(thread.tokens for thread in solution.threads)
    assert usage.span_tokens < usage.work_tokens
    assert 1 < solution.parallelism <= len(solution.threads)
    if strategy in (
        "multiverse",
        "parathinker",
    ):  # what is joined is not given again, but for each join one letter
        branches = [thread for thread in solution.threads if "." in thread.id]
        joins = usage.prompt_tokens - len("Prompt") - 2 * len(branches)
        assert joins == (1 if strategy == "parathinker" else len(branches) // 3)


@pytest.mark.parametrize("strategy", ["parathinker", "hogwild", "group-think"])
async def test_one_worker_alone_has_a_span_equal_to_its_work(engine: Engine, strategy: str) -> None:
    solution = await solved(engine, strategy, n=1)
    assert solution.usage.span_tokens == solution.usage.work_tokens
    assert solution.parallelism == 1


@arms
@pytest.mark.parametrize("after", [1, 20])
async def test_a_run_that_is_stopped_leaves_no_keys_and_keeps_what_was_written(
    engine: Engine, strategy: str, after: int
) -> None:
    scope, count = anyio.CancelScope(), 0

    def listen(event: Event) -> None:
        nonlocal count
        count += isinstance(event, TextGenerated)
        if count == after:
            scope.cancel()

    solution = await solved(engine, strategy, cancel_scope=scope, listener=listen)
    assert solution.status == "interrupted"
    assert sum(thread.tokens for thread in solution.threads) >= after
    assert nothing_left(engine)


async def test_first_finish_stops_all_paths_at_the_same_token(engine: Engine) -> None:
    for seed in range(6):
        solution = await solved(engine, "parathinker", seed=seed)
        first, *paths = sorted(
            (t for t in solution.threads if "." in t.id), key=lambda t: t.state != "succeeded"
        )
        assert first.state == "succeeded"
        assert {path.tokens for path in paths} <= {first.tokens}


@pytest.mark.parametrize("layout", ["combined", "contiguous", "interleaved"])
async def test_workers_are_cut_where_all_is_done(endless: Engine, layout: Any) -> None:
    engine, letters = endless, anything()
    run = scripted_run(Script(lambda seen, own: ""), letters, max_tokens=256)
    run.temperature = 1.0
    async with letter_model(engine=engine, dialect=letters).backend as run.backend:
        await Hogwild(n=3, layout=layout, check_every=20).solve(run)
        run.close()
    written = [thread.written for thread in run.threads.values()]
    assert letters.share_form.complete([thread.text for thread in run.threads.values()])
    assert max(written) - min(written) <= 1
    checks = sum(thread.text.count(":?") for thread in run.threads.values())
    assert (checks >= 3) is (layout != "contiguous")
    assert nothing_left(engine)


@pytest.mark.parametrize(
    ("strategy", "refusing"), [("hogwild", (16,)), ("group-think", (16, 24)), ("parathinker", ())]
)
@pytest.mark.parametrize("room", [16, 24, 40])
async def test_a_context_that_is_too_small_ends_the_run_at_once(
    engine: Engine, strategy: str, refusing: Sequence[int], room: int
) -> None:
    refused = False
    with anyio.fail_after(20):
        try:
            assert (await solved(engine, strategy, max_tokens=room, n=8)).status == "finished"
        except InvalidValue as error:
            refused = "--max-tokens" in str(error)
            del error
    assert refused is (room in refusing)
    gc.collect()
    assert nothing_left(engine)


@pytest.mark.parametrize("strategy", ["hogwild", "group-think"])
async def test_the_finisher_has_room_when_the_workers_have_none_left(
    engine: Engine, strategy: str
) -> None:
    dialect = Letters(share_form=Share(at=SOME, most=10**6, finisher="F"))
    async with Reasoner(letter_model(engine=engine, dialect=dialect)) as reasoner:
        solution = await reasoner.solve(
            QUESTION, strategy=strategy, n=3, temperature=1.0, max_tokens=128
        )
    assert solution.threads[-1].id == "1"
    assert solution.threads[-1].tokens > 0
    assert nothing_left(engine)


# ---- what is refused, and what is said ---------------------------------------------------------


def lacking(*capabilities: Any, dialect: Letters | None = None) -> LoadedModel:
    script = Script(lambda seen, own: "=1\0", *capabilities)
    return letter_model(script=script, dialect=dialect or Letters())


@arms
def test_what_can_be_emulated_is_not_refused(strategy: str) -> None:
    assert choose_strategy(SolveOptions(strategy=strategy), lacking(), QUESTION).name == strategy


@arms
def test_what_can_not_be_emulated_is_refused_by_name(strategy: str) -> None:
    model = lacking(dialect=Letters(capabilities=frozenset()))
    with pytest.raises(CapabilityMissing, match=f"'{strategy}' needs shared-threads.*letters"):
        choose_strategy(SolveOptions(strategy=strategy), model, QUESTION)


@pytest.mark.parametrize(
    ("strategy", "capabilities", "emulated"),
    [
        ("parathinker", [], ("text-join",)),
        ("parathinker", [JOINS], ()),
        ("hogwild", [JOINS], ("step-wise",)),
        ("single", [], ()),
    ],
)
async def test_a_solution_names_what_was_emulated(
    strategy: str, capabilities: Sequence[str], emulated: tuple[str, ...]
) -> None:
    async with Reasoner(lacking(*capabilities)) as reasoner:
        solution = await reasoner.solve(QUESTION, strategy=strategy)
    assert solution.emulated == emulated


def test_the_command_names_what_was_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    def say(seen: str, own: str) -> str:
        return "=1\0" if own == "S" else "long=1."

    def load(*_: object, **__: object) -> LoadedModel:
        return letter_model(script=Script(say), dialect=Letters())

    monkeypatch.setattr(PoolModel, "load", load)
    ask = ["solve", "Why?", "--model", "letters"]
    arguments = [*ask, "--strategy", "parathinker:need=3", "--n", "3"]
    shown = CliRunner().invoke(main, arguments)
    assert shown.stdout == "1\n"
    last = shown.stderr.splitlines()[-1]
    assert "emulated: text-join" in last
    assert "parallelism 2.4" in last
    report = Report.model_validate_json(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert report.emulated == ("text-join",)
    assert report.parallelism == 2.4  # three paths of 7 letters and 3 for the summary, by 10
    plain = CliRunner().invoke(main, [*ask, "--strategy", "single"])
    assert "emulated" not in plain.stderr
    assert "parallelism 1.0" in plain.stderr
