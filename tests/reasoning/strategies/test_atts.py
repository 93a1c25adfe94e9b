"""Two models at one chain: what is kept, who steps in, and that nobody waits for a rank."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest
from click.testing import CliRunner

from orchestrator import Event
from orchestrator.errors import InvalidValue
from pruning import Accept, Escalate, Resample, StepScored
from reasoning import Reasoner, load_model
from reasoning.backends.base import Backend, Generation, Token
from reasoning.cli import main
from reasoning.evaluation import draw_problems
from reasoning.language import markup
from reasoning.models.loaded import LoadedModel
from reasoning.problems import Countdown
from reasoning.run.driver import PolicyDecided
from reasoning.run.run import Run
from reasoning.strategies import Atts
from reasoning.values.capabilities import Capability
from reasoning.values.context import Gang, Segment
from reasoning.values.sampling import Sampling

pytestmark = pytest.mark.anyio

PROBLEM = Countdown(numbers=(3, 10, 21, 23), target=50)
END = f"{markup.ANSWER} 23 - 3 = 20 , 20 + 30 = 50 {markup.EOS}"


class Scripted(Backend):
    """A backend whose n-th thread writes the n-th text, and scores as a function says."""

    capabilities: frozenset[Capability] = frozenset({"scoring", "logprobs"})

    def __init__(
        self, model: LoadedModel, texts: Sequence[str], score: Callable[[str], float]
    ) -> None:
        self.model = model
        self.texts = list(texts)
        self.scored = score
        self.seen: list[str] = []
        self.gate: anyio.Event | None = None

    def text(self, tokens: Sequence[int]) -> str:
        decoder = self.model.dialect.decoder()
        return "".join(map(decoder.feed, tokens))

    def open(
        self,
        segment: Segment,
        sampling: Sampling,
        *,
        stop: Collection[int] = (),
        limit: int | None = None,
        gang: Gang | None = None,
    ) -> Generation:
        self.seen.append(self.text(segment.context.tokens))
        return ScriptedGeneration(self, segment, self.texts.pop(0))

    async def score(self, segment: Segment) -> list[float]:
        await anyio.lowlevel.checkpoint()
        return [self.scored(self.text(segment.tokens))] * len(segment)


class ScriptedGeneration(Generation):
    def __init__(self, backend: Scripted, segment: Segment, text: str) -> None:
        self.backend = backend
        self.segment = segment
        self.said = text

    async def tokens(self) -> AsyncIterator[Token]:
        waits, said, rest = self.said.partition("wait ")
        if said and self.backend.gate is not None:
            await self.backend.gate.wait()
        tokens = self.backend.model.dialect.encode(waits + rest)
        for index, token in enumerate(tokens):
            await anyio.lowlevel.checkpoint()
            last = index == len(tokens) - 1
            ended = token in self.backend.model.dialect.ends
            yield Token(token, -0.1, ("stop" if ended else "length") if last else None)

    def extend(self, tokens: Sequence[int]) -> None: ...

    def resume(self, segment: Segment) -> None: ...

    def close(self) -> None: ...


def pair(model: LoadedModel, target: Scripted, draft: Scripted) -> Run:
    side = LoadedModel(name="draft", backend=draft, dialect=model.dialect, context=512)
    return Run(problem=PROBLEM, backend=target, dialect=model.dialect, max_tokens=512, draft=side)


async def test_the_target_goes_on_after_a_strange_chunk_and_the_draft_after_that(
    shipped: LoadedModel,
) -> None:
    draft = Scripted(shipped, ["3 + 10", "21 - 3 = 18 ,", END], lambda _: 0.0)
    strange = {"21 - 3 = 18 ,": -5.0}
    target = Scripted(shipped, ["23 - 18 = 5 ;"], lambda text: strange.get(text, -0.1))
    run = pair(shipped, target, draft)
    # Four scores are known, so that a stranger one has p = 1/5, and a usual one 1.
    policy = Atts(n=1, method="bank").policy
    state = policy.begin(None)  # type: ignore[arg-type]
    for _ in range(4):
        policy.observe(state, StepScored(trace=0, turn=0, score=1.2))
    run.memory[policy.label] = state
    tally = await Atts(n=1, method="bank").solve(run)
    prompt = "<bos> <serial> 3 10 21 23 => 50 :"
    assert draft.seen == [
        prompt,
        f"{prompt} 3 + 10",
        f"{prompt} 3 + 10 21 - 3 = 18 , 23 - 18 = 5 ;",
    ]
    assert target.seen == [f"{prompt} 3 + 10 21 - 3 = 18 ,"]
    assert run.threads["1"].text == f"3 + 10 21 - 3 = 18 , 23 - 18 = 5 ; {END}"
    assert tally.winner is not None
    assert run.steering is not None
    kinds = [type(decided.decision).__name__ for decided in run.steering.log]
    assert kinds == ["Launch", "Accept", "Escalate", "Accept", "Finish"]


async def test_an_unlikely_chunk_is_dropped_and_drafted_again_on_request(
    shipped: LoadedModel,
) -> None:
    draft = Scripted(shipped, ["3 + 10 ;", "21 - 3 ;", END], lambda _: 0.0)
    strange = {"21 - 3 ;": -5.0, "3 + 10 ;": -6.0}
    target = Scripted(shipped, [END], lambda text: strange.get(text, -0.1))
    run = pair(shipped, target, draft)
    atts = Atts(n=1, method="bank", rejects=2)
    state = atts.policy.begin(None)  # type: ignore[arg-type]
    for _ in range(9):
        atts.policy.observe(state, StepScored(trace=0, turn=0, score=1.2))
    run.memory[atts.policy.label] = state
    await atts.solve(run)
    assert run.steering is not None
    kinds = [type(decided.decision) for decided in run.steering.log[1:-1]]
    assert kinds == [Resample, Resample, Accept]
    assert run.threads["1"].text.strip() == END
    assert len(set(draft.seen)) == 1  # each was written from the same place
    assert run.threads["1"].written == len(shipped.dialect.encode(f"3 + 10 ; 21 - 3 ; {END}"))
    assert target.seen == []


async def test_where_the_draft_would_end_strangely_the_target_writes_instead(
    shipped: LoadedModel,
) -> None:
    wrong = f"{markup.ANSWER} 3 + 10 = 13 {markup.EOS}"
    target = Scripted(shipped, [END], lambda text: -9.0 if text == wrong else -0.1)
    run = pair(shipped, target, Scripted(shipped, [wrong], lambda _: 0.0))
    atts = Atts(n=1, method="bank")
    state = atts.policy.begin(None)  # type: ignore[arg-type]
    for _ in range(9):
        atts.policy.observe(state, StepScored(trace=0, turn=0, score=1.2))
    run.memory[atts.policy.label] = state
    await atts.solve(run)
    assert run.threads["1"].text.strip() == END


@pytest.mark.parametrize("slow", range(4))
async def test_chunks_are_judged_by_tokens_whichever_chain_is_slow(
    shipped: LoadedModel, slow: int
) -> None:
    texts = ["3 + 10", "3 + 10 = 13 ;", "3 + 10", "3", END, END, END, END]
    texts[slow] = f"wait {texts[slow]}"
    draft = Scripted(shipped, texts, lambda _: 0.0)
    draft.gate = anyio.Event()
    run = pair(shipped, Scripted(shipped, [], lambda _: -0.1), draft)

    async def open_later() -> None:
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        assert draft.gate is not None
        draft.gate.set()

    async with anyio.create_task_group() as group:
        group.start_soon(open_later)
        with anyio.fail_after(20):
            await Atts(n=4).solve(run)
    assert run.steering is not None
    judged = [one.decision for one in run.steering.log if isinstance(one.decision, Accept)]
    assert list(dict.fromkeys(one.trace for one in judged)) == [3, 0, 2, 1]


class Letters:
    """A dialect of another tokenizer: a token is a letter's code."""

    capabilities: frozenset[Capability] = frozenset({"continuing"})
    stop: frozenset[int] = frozenset()
    ends: frozenset[int] = frozenset()
    probe = "?"
    vocabulary = "letters"

    def __init__(self, model: LoadedModel) -> None:
        self.model = model

    def encode(self, text: str) -> list[int]:
        return list(map(ord, text))

    def decoder(self) -> Any:
        return self

    def feed(self, token: int) -> str:
        return chr(token)

    def prompt(self, problem: Any) -> Any:
        from reasoning.values.context import Context

        return Context.given(self.encode("make 50:"))

    def tool_calls(self, text: str) -> tuple[()]:
        return ()

    def answer(self, problem: Any, text: str, *, finished: bool = True) -> Any:
        return self.model.dialect.answer(problem, text, finished=finished)


class Spelled(Scripted):
    """A backend of letters that can't score."""

    capabilities: frozenset[Capability] = frozenset()
    score = None  # type: ignore[assignment]

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))


async def test_models_of_other_tokens_hear_each_other_as_text(shipped: LoadedModel) -> None:
    draft = Scripted(shipped, ["3 + 10 ;", END], lambda _: 0.0)
    target = Spelled(shipped, [], lambda _: -0.1)
    run = replace_dialect(pair(shipped, target, draft), Letters(shipped))
    await Atts(n=1).solve(run)
    assert run.threads["1"].text == f"3 + 10 ;{END}"
    assert run.steering is not None
    scores = [d.decision for d in run.steering.log if isinstance(d.decision, Accept | Escalate)]
    assert len(scores) == 2  # by the draft's own log-probabilities


def replace_dialect(run: Run, dialect: Any) -> Run:
    return replace(run, dialect=dialect)


async def test_the_shipped_pair_holds_its_rate_over_a_stream_of_problems(
    shipped: LoadedModel,
) -> None:
    small = load_model("reason-1m")
    decided: Counter[type[Any]] = Counter()
    heard = 0

    def listen(event: Event) -> None:
        nonlocal heard
        heard += isinstance(event, PolicyDecided)

    async with Reasoner(shipped, draft=small) as reasoner:
        for problem in draw_problems("arithmetic", 20, numbers=4, seed=1):
            solution = await reasoner.solve(problem, strategy="atts", listener=listen)
            assert solution.steering is not None
            decided.update(type(one.decision) for one in solution.steering.log)
            assert solution.usage.completion_tokens == sum(t.tokens for t in solution.threads)
    steps = decided[Accept] + decided[Escalate]
    assert steps > 150
    assert decided[Escalate] / steps == pytest.approx(0.4, abs=0.08)
    assert heard == sum(decided.values())
    for model in (shipped, small):
        model.backend.engine.segments.sweep()
        assert model.backend.engine.open_threads == 0
        assert model.backend.engine.pool.used == 0


def test_a_budget_of_calls_sets_the_level() -> None:
    assert Atts(n=4).policy.alpha == 0.4
    assert Atts(n=4, calls=8, steps=8).policy.alpha == 8 / 32
    assert Atts(n=1, calls=99).policy.alpha == 0.99


async def test_two_models_are_needed(shipped: LoadedModel) -> None:
    async with Reasoner(shipped) as reasoner:
        with pytest.raises(InvalidValue, match="give --draft"):
            await reasoner.solve(PROBLEM, strategy="atts")


def test_the_terminal_shows_who_stepped_in_and_why() -> None:
    done = CliRunner().invoke(
        main, ["solve", "Compute (17*3+5)*4-12", "--strategy", "atts:n=2", "--draft", "reason-1m"]
    )
    assert "accept: turn " in done.stderr
    assert " against 0." in done.stderr
    assert "finish: majority: " in done.stderr
