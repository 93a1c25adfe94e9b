"""Strategies on chat models that think at length, follow no form, or can't be begun for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from reasoning import Reasoner, Solution, load_model
from reasoning.backends.text import TextBackend
from reasoning.backends.text_tokens import TextDialect
from reasoning.errors import BackendLost
from reasoning.problems import FreeForm
from reasoning.values.sampling import Sampling
from tests.support.chat_server import chat_server

pytestmark = pytest.mark.anyio

QUESTION = "A box holds 12 eggs. How many eggs are in 5 boxes?"
SHARING = ["multiverse", "parathinker", "hogwild", "group-think"]
PLAN = "1: count the boxes\n2: count the eggs in a box"
LONG = " ".join(f"Case {k * k} gives {k * 7919 % 1013}." for k in range(1, 900))
"""More than any context here, without repeating itself."""

Say = Callable[[str], str]


class Spoken(TextBackend):
    """Writes what a function says of the last message, piece by piece; keeps what was asked."""

    def __init__(self, say: Say, *, context: int = 2048, continues: bool = True) -> None:
        super().__init__(context=context)
        self.dialect = TextDialect(in_chat=True, continues=continues)
        self.say = say
        self.asked: list[list[dict[str, Any]]] = []

    async def write(
        self, messages: list[dict[str, Any]], sampling: Sampling, *, most: int
    ) -> AsyncIterator[str]:
        self.asked.append(messages)
        said = self.say(messages[-1]["content"])
        for start in range(0, len(said), 4):
            await anyio.lowlevel.checkpoint()
            yield said[start : start + 4]


async def solved(backend: TextBackend, strategy: str, **options: Any) -> Solution:
    with anyio.fail_after(60):
        async with Reasoner(load_model(backend=backend)) as reasoner:
            return await reasoner.solve(FreeForm(question=QUESTION), strategy=strategy, **options)


def plain(asked: str) -> str:
    """A model that does what it is asked, in short."""
    if "Only plan" in asked:
        return PLAN
    if "Do part" in asked:
        return "5 boxes." if "boxes" in asked.rpartition("only that part")[2] else "12 eggs."
    return "5 times 12 is 60, so \\boxed{60}."


@pytest.mark.parametrize("continues", [True, False])
@pytest.mark.parametrize("strategy", SHARING)
async def test_every_strategy_answers_where_turns_can_be_begun_and_where_not(
    strategy: str, continues: bool
) -> None:
    backend = Spoken(plain, continues=continues)
    solution = await solved(backend, strategy, n=2)
    assert solution.answer == "60"
    assert all(asked[-1]["role"] == "user" for asked in backend.asked if not continues)
    assert all(QUESTION in asked[0]["content"] for asked in backend.asked)
    emulated = {
        "multiverse": {"text-join"},
        "parathinker": {"text-join"} | ({"without-openings"} if not continues else set()),
    }.get(strategy, {"step-wise"} | ({"asked-anew"} if not continues else set()))
    assert set(solution.emulated) == emulated


async def test_a_run_over_http_asks_a_server_without_begun_turns_by_questions_alone() -> None:
    roles: list[str] = []

    def respond(body: dict[str, Any]) -> str:
        roles.append(body["messages"][-1]["role"])
        return plain(body["messages"][-1]["content"])

    with chat_server(respond=respond) as url:
        for strategy in SHARING:
            async with Reasoner(load_model("tiny", base_urls=[url])) as reasoner:
                del roles[:]
                solution = await reasoner.solve(QUESTION, strategy=strategy, n=2)
            assert solution.answer == "60"
            assert solution.errors == ()
            assert set(roles) == {"user"}


# ---- long thinkers -----------------------------------------------------------------------------


async def test_long_attempts_are_shortened_to_be_compared() -> None:
    def say(asked: str) -> str:
        if "Compare the attempts" in asked:
            assert "Attempt 3:" in asked
            return "The attempts agree: \\boxed{60}"
        return f"{LONG[:3000]}So \\boxed{{60}}."

    backend = Spoken(say, context=1024)
    solution = await solved(backend, "parathinker:n=3,need=3")
    assert solution.answer == "60"
    assert "paths-cut" in solution.emulated
    compared = backend.asked[-1][-1]["content"]
    assert len(compared) // 4 < 1024 - 128
    assert compared.count("So \\boxed{60}.") == 3  # the ends of attempts have their answers


async def test_what_was_thought_is_not_retold() -> None:
    def say(asked: str) -> str:
        if "Compare the attempts" in asked:
            return "<think>Hm, \\boxed{7}?</think>It is \\boxed{60}."
        return f"<think>{LONG[:2000]} \\boxed{{1}}</think>So \\boxed{{60}}."

    backend = Spoken(say)
    solution = await solved(backend, "parathinker:n=3,need=3")
    assert solution.answer == "60"
    assert LONG[:40] not in backend.asked[-1][-1]["content"]
    assert "paths-cut" not in solution.emulated


@pytest.mark.parametrize("ending", ["", "I can't say.", "<think>\\boxed{7}"])
async def test_paths_vote_where_the_summary_gives_no_answer(ending: str) -> None:
    def say(asked: str) -> str:
        return ending if "Compare the attempts" in asked else "So \\boxed{60}."

    solution = await solved(Spoken(say), "parathinker:n=3,need=3")
    assert solution.votes == {"60": 3}
    assert solution.join_skipped == "it gave no answer"
    assert "join-skipped" in solution.emulated
    assert solution.report().join_skipped == solution.join_skipped


async def test_paths_vote_where_the_summary_is_lost() -> None:
    class Failing(Spoken):
        async def write(
            self, messages: list[dict[str, Any]], sampling: Sampling, *, most: int
        ) -> AsyncIterator[str]:
            if "Compare the attempts" in messages[-1]["content"]:
                raise BackendLost("the line is dead; call again")
            async for piece in super().write(messages, sampling, most=most):
                yield piece

    solution = await solved(Failing(plain), "parathinker:n=3,need=3")
    assert solution.answer == "60"
    assert "the line is dead" in str(solution.join_skipped)


async def test_parts_of_a_long_plan_are_shortened_for_the_conclusion() -> None:
    def say(asked: str) -> str:
        if "Do part" in asked:
            return f"<think>{LONG[:600]}</think>{LONG[:1500]}The part is done."
        return PLAN if "Only plan" in asked else "\\boxed{60}"

    backend = Spoken(say, context=1024)
    solution = await solved(backend, "multiverse")
    assert solution.answer == "60"
    assert {"text-join", "paths-cut"} <= set(solution.emulated)
    *said, last = backend.asked[-1]
    assert "Put their results together" in last["content"]
    assert sum("The part is done." in one["content"] for one in said) == 2
    assert not any("<think>" in one["content"] for one in said)


@pytest.mark.parametrize("continues", [True, False])
async def test_a_shared_text_keeps_its_last_steps_where_all_have_no_room(continues: bool) -> None:
    steps = 0

    def say(asked: str) -> str:
        nonlocal steps
        if "Time is up" in asked:
            return "\\boxed{60}"
        steps += 1
        return f"Step {steps} is done. {'Nothing new here. ' * 20}\n\nunread"

    backend = Spoken(say, context=1024, continues=continues)
    solution = await solved(backend, "hogwild:n=3")
    assert solution.answer == "60"
    assert "paths-cut" in solution.emulated
    assert steps <= 3 * 1024  # a worker writes no more than a context
    final = backend.asked[-1]
    assert "Time is up" in final[-1]["content"]
    assert f"Step {steps} is done." in "".join(one["content"] for one in final)
    for asked in backend.asked:
        assert sum(len(one["content"]) for one in asked) // 4 <= 1024
        assert "unread" not in asked[-1]["content"]


async def test_workers_see_each_others_steps_on_a_server_that_is_asked_anew() -> None:
    def say(asked: str) -> str:
        if "You are Ben" in asked:
            return "Ben: five boxes.\n\n" if "twelve" not in asked else "\\boxed{60}"
        return "<think>I count.</think>twelve eggs.\n\n"

    backend = Spoken(say, continues=False)
    solution = await solved(backend, "hogwild:n=2")
    assert solution.answer == "60"
    shown = [asked[-1]["content"] for asked in backend.asked]
    assert any("Ada: twelve eggs.\n\nBen: five boxes." in one for one in shown)
    assert not any("Ben: Ben" in one or "I count" in one for one in shown)


# ---- models that follow no form ----------------------------------------------------------------

NONSENSE = [
    "",
    "\n\n\n",
    "1: what to do\n2: what to do",
    "1: a\n1: b\n\\boxed{}",
    "\n".join(f"{k}: do thing {k} of many" for k in range(1, 99)),
    "<think>" * 40,
    "</think>",
    "```\n" * 31,
    "Ada: Ben: Cleo: \\boxed{your answer}\n\n",
    "\x1e\x1e\x00\x1b[2J",
    LONG,
]


@pytest.mark.parametrize("strategy", SHARING)
@pytest.mark.parametrize("said", NONSENSE, ids=range(len(NONSENSE)))
async def test_nonsense_ends_without_an_answer_and_within_bounds(strategy: str, said: str) -> None:
    backend = Spoken(lambda asked: said, context=512)
    solution = await solved(backend, strategy, n=3)
    assert solution.status == "finished"
    assert solution.answer is None or solution.answer_source == "text"
    assert len(backend.asked) < 600
    assert solution.usage.completion_tokens <= 6 * 512


async def test_a_refused_plan_is_told_and_the_question_answered_alone() -> None:
    def say(asked: str) -> str:
        return "1: what to do\n2: what to do" if "Only plan" in asked else "\\boxed{60}"

    solution = await solved(Spoken(say), "multiverse")
    assert solution.answer == "60"
    assert solution.fork_refused == "a part says nothing: 'what to do'"
    assert solution.report().fork_refused == solution.fork_refused


async def test_the_answer_of_a_plan_is_not_that_of_its_conclusion() -> None:
    def say(asked: str) -> str:
        return "none, it is \\boxed{7}" if "Only plan" in asked else "I don't know."

    assert (await solved(Spoken(say), "multiverse")).answer is None


async def test_chat_models_sample_where_paths_would_be_equal() -> None:
    heats: set[float] = set()

    class Warm(Spoken):
        def write(
            self, messages: list[dict[str, Any]], sampling: Sampling, *, most: int
        ) -> AsyncIterator[str]:
            heats.add(sampling.temperature)
            return super().write(messages, sampling, most=most)

    for strategy in SHARING[1:]:
        await solved(Warm(plain), strategy, n=2)
    assert heats == {0.7}
    await solved(Warm(plain), "parathinker", n=2, temperature=0.2)
    assert heats == {0.7, 0.2}
