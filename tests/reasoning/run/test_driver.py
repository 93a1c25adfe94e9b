"""What a policy decides over live traces: the same as in replay, with nothing wasted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest
from click.testing import CliRunner

from orchestrator import Event
from orchestrator.errors import InvalidValue, ReasonError
from pruning import (
    POLICIES,
    Began,
    Decisions,
    Finish,
    FixedSamples,
    Launch,
    Observation,
    Pause,
    Policy,
    Probe,
    Question,
    Replay,
    Resume,
    Stop,
    Trace,
)
from pruning.policy import Need
from reasoning import Reasoner, Solution, load_model
from reasoning.backends.base import Token
from reasoning.cli import main
from reasoning.errors import CapabilityMissing
from reasoning.evaluation import read_traces
from reasoning.models.loaded import LoadedModel
from reasoning.policies import parse_policy
from reasoning.problems import Countdown, FreeForm
from reasoning.run.driver import GRID, PolicyDecided
from reasoning.run.report import report
from reasoning.run.trace import SteeredTrace

pytestmark = pytest.mark.anyio

PROBLEM = Countdown(numbers=(3, 10, 21, 23), target=50)
TEXTS = [
    "default:k=4,cap=96,probe_every=16,streak=2",
    "default:k=6,threshold=0.9,cap=400,probe_every=24",
    "sc:n=6",
    "adaptive:n=5",
    "async:k=6,n=8,cap=120",
    "async:k=8,threshold=0.7",
    "esc:w=2,n=6",
    "cap:n=5,tokens=60",
    "convergence:n=4,probe_every=16,streak=1",
    "parallel-probe:n=6,probe_every=16,warmup=1,patience=2,stable=4",
    "deepconf:n=8,warmup=3,window=16,keep=50",
    "deepconf-offline:n=5,keep=50,window=16",
    "deepprune:n=6,prefix=16,k1=2,k2=2",
    "best-of-n:n=6",
    "bon:n=5",
    "weighted:n=5",
    "saturation:k=2,n=6",
    "rounds:w=2,n=6",
    "async:k=6 with deepprune:n=6,prefix=16",
]


@dataclass(frozen=True, kw_only=True)
class Everything(FixedSamples):
    """Let all traces end, and have everything observed that any policy observes."""

    name: ClassVar[str] = "everything"
    needs: ClassVar[frozenset[Need]] = frozenset({"confidence"})
    n: int = 8

    def observe(self, state: Any, observation: Observation) -> Decisions:
        decisions = super().observe(state, observation)
        if isinstance(observation, Began):
            return (Launch(count=self.n, reason="all", probe_every=GRID),)
        return decisions

    def begin(self, rng: Any) -> Any:
        state = super().begin(rng)
        state.launched = state.running = self.n
        return state


def judge(trace: Trace, other: Trace, tokens: int) -> float:
    """Two prefixes agree if they begin alike: our tokens are words."""
    assert len(trace.text.split()) >= tokens
    return float(trace.text.split()[:6] == other.text.split()[:6])


@pytest.fixture(scope="module")
def small() -> LoadedModel:
    return load_model("reason-1m")


async def steered(model: LoadedModel, policy: str | Policy[Any], **options: Any) -> Solution:
    given: dict[str, Any] = {"max_tokens": 300, "temperature": 0.9, "judge": judge, **options}
    async with Reasoner(model) as reasoner:
        solution = await reasoner.solve(PROBLEM, policy=policy, **given)
        assert solution.usage.leaked_tokens == reasoner.leaked
    return solution


def stored(solution: Solution, path: Path) -> Question:
    """What is read from the run's file."""
    path.write_text(report(solution).model_dump_json(by_alias=True))
    (question,) = read_traces([str(path)])
    return question


def replayed(policy: Policy[Any], question: Question) -> Any:
    return Replay(
        policy=policy,
        stored=question.traces,
        probe_every=question.probe_every,
        judge=judge,
    ).run()


@pytest.fixture(scope="module")
def whole(small: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Question:
    """The run's traces, each up to its own end, and all that can be observed of them."""
    solution = anyio.run(lambda: steered(small, Everything()))
    question = stored(solution, tmp_path_factory.mktemp("whole") / "run.json")
    assert len({trace.tokens for trace in question.traces}) > 3
    assert len({trace.answer for trace in question.traces}) > 1
    return question


def test_every_named_policy_is_tried() -> None:
    assert {parse_policy(text).name for text in TEXTS} >= set(POLICIES)


@pytest.mark.parametrize("text", TEXTS)
async def test_a_policy_decides_online_as_in_replay(
    small: LoadedModel, whole: Question, text: str, tmp_path: Path
) -> None:
    policy = parse_policy(text)
    solution = await steered(small, text)
    steering = solution.steering
    assert steering is not None
    own = replayed(policy, stored(solution, tmp_path / "run.json"))
    assert own.log == steering.log  # over what the run itself has stored
    other = replayed(policy, whole)
    assert other.log == steering.log  # over traces that another run let end by themselves
    for replay in (own, other):
        assert (replay.tokens, replay.span) == (steering.tokens, steering.clock)
        assert (replay.probes, replay.judged) == (steering.probes, steering.judged)


async def test_a_trace_that_ended_ahead_of_the_clock_is_probed_all_the_same(
    small: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = "default:k=6,cap=48,probe_every=16"
    runs = [await steered(small, policy)]
    monkeypatch.setattr(small.backend.engine, "slots", 2)  # some end before others begin
    runs.append(await steered(small, policy))
    at_once, in_turn = (
        [(one.tokens, one.answer, one.trace.probes) for one in run.threads if one.trace]
        for run in runs
    )
    assert at_once == in_turn
    assert len(at_once) == 6
    assert all(probes for _, _, probes in at_once)


async def test_a_trace_that_somebody_else_cancelled_is_not_probed(
    small: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    took = SteeredTrace.took

    def cancelled(trace: SteeredTrace, token: Token) -> None:
        took(trace, token)
        if trace.number == 1 and trace.written == 16:  # it is to be probed there
            trace.task.cancel()

    monkeypatch.setattr(SteeredTrace, "took", cancelled)
    solution = await steered(small, "default:k=6,cap=48,probe_every=16")
    traces = [thread.trace for thread in solution.threads if thread.trace]
    assert [trace.how for trace in traces if trace.number == 1] == ["stopped"]
    assert [trace.probes for trace in traces if trace.number == 1] == [((16, None),)]
    assert all(len(trace.probes) > 1 for trace in traces if trace.how == "length")


async def test_what_is_stopped_wastes_nothing(small: LoadedModel) -> None:
    for text in ("async:k=8,threshold=0.7", "convergence:n=4,probe_every=16,streak=1"):
        solution = await steered(small, text)
        assert "cancelled" in {thread.state for thread in solution.threads}
        assert solution.usage.leaked_tokens == 0
        assert solution.steering is not None
        assert solution.steering.tokens == sum(thread.tokens for thread in solution.threads)
    assert small.backend.engine.open_threads == 0


async def test_each_decision_is_an_event_with_its_reason(small: LoadedModel) -> None:
    events: list[Event] = []
    solution = await steered(small, "convergence:n=3,probe_every=16", listener=events.append)
    decided = [event for event in events if isinstance(event, PolicyDecided)]
    assert solution.steering is not None
    assert tuple(event.decided for event in decided) == solution.steering.log
    stops = [event for event in decided if isinstance(event.decided.decision, Stop)]
    assert {event.task for event in stops} <= {thread.id for thread in solution.threads}
    assert all(event.decided.decision.reason for event in decided)


def test_the_terminal_and_the_file_show_why(tmp_path: Path) -> None:
    problem = "Use 3, 10, 21 and 23 to make 50"
    options = ["--policy", "async:k=6,threshold=0.7", "--model", "reason-1m"]
    done = CliRunner().invoke(main, ["solve", problem, *options])
    assert "stopped: the run has finished" in done.stderr
    assert "finish: " in done.stderr
    assert "≥ 0.7" in done.stderr.splitlines()[-1]
    assert " leaked)" in done.stderr.splitlines()[-1]
    done = CliRunner().invoke(main, ["solve", problem, *options, "--json", "--quiet"])
    steering = json.loads(done.stdout)["steering"]
    assert steering["policy"] == "async:k=6,threshold=0.7"
    assert [decision["do"] for decision in steering["decisions"]] == ["launch", "finish"]
    (tmp_path / "run.json").write_text(done.stdout)
    again = CliRunner().invoke(
        main, ["replay", str(tmp_path / "run.json"), "--policy", steering["policy"], "--json"]
    )
    (row,) = json.loads(again.stdout)["results"]
    assert (row["tokens"], row["span"]) == (steering["tokens"], steering["clock"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"policy": "magic"}, "policy 'magic' does not exist"),
        ({"policy": "async", "n": 4}, "n: the policy says how many"),
        ({"policy": "async", "strategy": "apr"}, "policy: strategy 'apr' takes none"),
    ],
)
async def test_a_policy_that_can_not_steer_is_refused(
    small: LoadedModel, options: dict[str, Any], words: str
) -> None:
    async with Reasoner(small) as reasoner:
        with pytest.raises(ReasonError, match=words):
            await reasoner.solve(PROBLEM, **options)


async def test_what_a_policy_needs_and_a_run_lacks_is_named(
    general: LoadedModel, small: LoadedModel
) -> None:
    with pytest.raises(CapabilityMissing, match="needs judge"):
        await steered(small, "deepprune:n=4", judge=None)
    async with Reasoner(general) as reasoner:
        with pytest.raises(CapabilityMissing, match="needs verifier"):
            await reasoner.solve(FreeForm(question="Why?"), policy="best-of-n:n=2")
        with pytest.raises(CapabilityMissing, match=r"'weighted' needs a scorer.*scorer=path\.py"):
            await reasoner.solve(FreeForm(question="Why?"), policy="weighted:n=2")


async def test_any_chat_model_is_probed_and_stopped(general: LoadedModel) -> None:
    async with Reasoner(general) as reasoner:
        solution = await reasoner.solve(
            FreeForm(question="Why?"), policy="cap:n=3,tokens=24", temperature=1.0
        )
    assert solution.steering is not None
    assert solution.steering.probes >= 1
    assert max(thread.tokens for thread in solution.threads) <= 24


@dataclass(frozen=True)
class Scripted(Policy[list[Observation]]):
    """Answers kinds of observations, each once."""

    answers: dict[str, tuple[Any, ...]]
    name: ClassVar[str] = "scripted"

    @property
    def label(self) -> str:
        return self.name

    def begin(self, rng: Any) -> list[Observation]:
        return []

    def observe(self, state: list[Observation], observation: Observation) -> Decisions:
        state.append(observation)
        return self.answers.pop(type(observation).__name__, ())


async def test_a_paused_trace_stands_still_and_goes_on_as_if_nothing_had_been(
    small: LoadedModel, whole: Question
) -> None:
    first, second = whole.traces[:2]
    policy = Scripted(
        {
            "Began": (Launch(count=2, reason="two", mark=10),),
            "Reached": (
                Pause(trace=0, reason="wait"),
                Probe(trace=1, reason="and you?"),
            ),
            "Ended": (Resume(trace=0, reason="go on"), Launch(count=1, reason="a third")),
        }
    )
    observed: list[Event] = []

    async def run() -> Solution:
        with anyio.fail_after(60):
            return await steered(small, policy, listener=observed.append)

    with pytest.raises(InvalidValue, match="never finished"):
        await run()
    texts: dict[str, int] = {}
    for event in observed:
        if type(event).__name__ == "TextGenerated":
            texts[event.task] = texts.get(event.task, 0) + 1
    assert [texts["1"], texts["2"]] == [first.tokens, second.tokens]
    assert texts["3"] == whole.traces[2].tokens


async def test_a_policy_can_finish_while_traces_are_paused_or_not_yet_begun(
    small: LoadedModel,
) -> None:
    policy = Scripted(
        {
            "Began": (Launch(count=100, reason="more than there are slots", mark=5),),
            "Reached": (Pause(trace=0, reason="wait"), Finish(answer=None, reason="enough")),
        }
    )
    with anyio.fail_after(60):
        solution = await steered(small, policy)
    assert solution.answer is None
    assert len(solution.threads) <= 100
    assert small.backend.engine.open_threads == 0


def test_a_steered_strategy_is_measured_beside_samples_that_all_end(tmp_path: Path) -> None:
    options = ["--limit", "4", "--model", "reason-1m", "--max-tokens", "128", "--json"]
    live = [f"self-consistency:policy={one}" for one in ("sc:n=4", "async:k=4,threshold=0.7")]
    arms = ["-o", str(tmp_path / "e.jsonl"), "--strategy", live[0], "--strategy", live[1]]
    done = CliRunner().invoke(main, ["eval", "countdown", *options, *arms])
    whole, steered = json.loads(done.stdout)["results"]
    assert [whole["policy"], steered["policy"]] == live
    assert steered["tokens"] < whole["tokens"]
    assert steered["runs"]["leaked"] == 0
