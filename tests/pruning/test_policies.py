"""What every policy promises, whatever its rule: an end, the same decisions each time, a reason."""

from __future__ import annotations

import dataclasses
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import ReasonError
from pruning import (
    POLICIES,
    AsyncConsensus,
    Began,
    Capped,
    Combined,
    DeepPrune,
    Ended,
    Finish,
    FixedSamples,
    Launch,
    Observation,
    ParallelProbe,
    Policy,
    PolicyError,
    PolicySession,
    ProbedConsensus,
    Replay,
    Replayed,
    Stop,
    Trace,
)
from reasoning.policies import parse_policy

EVERY = 10

EXAMPLES: list[Policy[Any]] = [
    *(parse_policy(name) for name in POLICIES),
    *map(
        parse_policy,
        [
            "default:k=4,cap=60,streak=2,probe_every=10",
            "sc:n=5",
            "async:k=3,n=9,cap=70",
            "esc:w=2,n=7",
            "cap:n=6,tokens=50",
            "convergence:n=4,probe_every=10",
            "parallel-probe:n=8,probe_every=10,warmup=2,patience=2,stable=5",
            "deepconf:n=10,warmup=3,window=20",
            "deepconf-offline:n=6,keep=50,measure=bottom,window=20",
            "deepprune:n=9,prefix=20,k=3,k1=2,k2=2,k3=2",
            "best-of-n:n=4",
            "bon:n=4",
            "weighted:n=5",
            "saturation:k=2,n=9",
            "rounds:w=2,n=9,epsilon=0.2",
        ],
    ),
    Capped(inner=FixedSamples(n=6), tokens=40),
    Combined(leader=AsyncConsensus(k=6), riders=(DeepPrune(n=6, prefix=20),)),
    Combined(
        leader=FixedSamples(n=6),
        riders=(ParallelProbe(n=6, probe_every=10, warmup=1, patience=1, stable=4),),
    ),
]
BY_LABEL = pytest.mark.parametrize("policy", EXAMPLES, ids=lambda policy: policy.label)

ANSWER = st.sampled_from(["a", "b", "c", None])


@st.composite
def traces(draw: st.DrawFn) -> list[Trace]:
    """Traces with all that any policy needs."""
    made = []
    for _ in range(draw(st.integers(1, 12))):
        tokens = draw(st.integers(1, 120))
        stretches = tokens // EVERY + 1
        made.append(
            Trace(
                tokens=tokens,
                answer=draw(ANSWER),
                probes=tuple(draw(st.lists(ANSWER, min_size=1, max_size=stretches))),
                confidences=tuple(draw(st.lists(st.floats(0, 20), min_size=1, max_size=stretches))),
                score=draw(st.sampled_from([0.0, 0.5, 1.0])),
            )
        )
    return made


def judge(trace: Trace, other: Trace, tokens: int) -> float:
    return float(trace.answer == other.answer)


def replay(policy: Policy[Any], stored: list[Trace], seed: int = 0) -> Replayed:
    return Replay(policy=policy, stored=stored, probe_every=EVERY, seed=seed, judge=judge).run()


@BY_LABEL
@settings(max_examples=25)
@given(stored=traces())
def test_every_run_ends_within_what_is_stored_and_decides_the_same_twice(
    policy: Policy[Any], stored: list[Trace]
) -> None:
    run = replay(policy, stored)
    assert 0 < run.tokens <= sum(trace.tokens for trace in stored)
    assert 0 < run.span <= run.tokens
    assert run.traces <= len(stored)
    said = {trace.answer for trace in stored} | {p for trace in stored for p in trace.probes}
    assert run.answer in said | {None}
    assert replay(policy, stored) == run
    assert all(decided.decision.reason for decided in run.log)
    assert isinstance(run.log[-1].decision, Finish)


@BY_LABEL
@settings(max_examples=25)
@given(stored=traces(), seed=st.integers(0, 3))
def test_told_the_same_again_a_policy_decides_the_same(
    policy: Policy[Any], stored: list[Trace], seed: int
) -> None:
    observed: list[Observation] = []

    class Recorder(PolicySession):
        def tell(self, observation: Observation) -> Any:
            observed.append(observation)
            return super().tell(observation)

    run = Replay(policy=policy, stored=stored, probe_every=EVERY, seed=seed, judge=judge)
    run.session = Recorder(policy=policy, seed=seed)
    log = run.run().log
    again = PolicySession(policy=policy, seed=seed)
    for observation in observed:
        again.tell(observation)
    assert tuple(again.log) == log


@BY_LABEL
def test_unanimous_traces_give_their_answer(policy: Policy[Any]) -> None:
    trace = Trace(tokens=35, answer="7", probes=("7",) * 4, confidences=(9.0,) * 4, score=1.0)
    assert replay(policy, [trace] * 8).answer == "7"


@BY_LABEL
def test_traces_without_an_answer_give_none(policy: Policy[Any]) -> None:
    trace = Trace(tokens=35, answer=None, probes=(None,) * 4, confidences=(9.0,) * 4, score=0.0)
    assert replay(policy, [trace] * 8).answer is None


@pytest.mark.parametrize("policy", EXAMPLES[:-3], ids=lambda policy: policy.label)
def test_the_label_names_the_policy(policy: Policy[Any]) -> None:
    assert parse_policy(policy.label) == policy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "policy '' does not exist; choose default, sc"),
        ("SC", "policy 'SC' does not exist"),
        ("sc:", "ends in a colon"),
        ("sc:n", "'n' is not key=value"),
        ("sc:k=1", "has no setting 'k'"),
        ("sc:n=1,n=2", "n is given twice"),
        ("sc:n=1.5", "n: '1.5' does not fit; give a whole number"),
        ("sc:n=0", "n: 0 is out of range"),
        ("async:threshold=nan", "threshold: 'nan' does not fit; give a number"),
        ("async:threshold=0.5", "threshold: 0.5 is out of range"),
        ("deepconf-offline:measure=best", "measure: 'best' does not fit; give mean"),
    ],
)
def test_a_policy_that_can_not_be_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ReasonError, match=message.replace("(", r"\(")):
        parse_policy(text)


def test_policies_are_values() -> None:
    assert FixedSamples(n=3) == FixedSamples(n=3)
    assert len({FixedSamples(n=3), FixedSamples(n=3), AsyncConsensus()}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        FixedSamples().n = 3  # type: ignore[misc]


def test_a_state_belongs_to_one_run() -> None:
    policy = FixedSamples(n=2)
    first, second = PolicySession(policy=policy), PolicySession(policy=policy)
    first.tell(Began())
    second.tell(Began())
    first.tell(Ended(trace=0, tokens=5, answer="a"))
    second.tell(Ended(trace=0, tokens=5, answer="b"))
    assert first.tell(Ended(trace=1, tokens=5, answer=None)) != second.tell(
        Ended(trace=1, tokens=5, answer=None)
    )


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ("aab", "majority: 2 of 3 votes"),
        ("aabc", "most votes, no majority: 2 of 4 votes"),
        ("ab", "tied, the first: 1 of 2 votes"),
    ],
)
def test_the_reason_says_how_far_the_votes_agree(answers: str, reason: str) -> None:
    session = PolicySession(policy=FixedSamples(n=len(answers)))
    session.tell(Began())
    for trace, answer in enumerate(answers):
        session.tell(Ended(trace=trace, tokens=5, answer=answer))
    assert session.finish == Finish(answer="a", reason=reason)


def test_a_finished_session_is_told_nothing_more() -> None:
    session = PolicySession(policy=FixedSamples(n=1))
    session.tell(Began())
    session.tell(Ended(trace=0, tokens=5, answer="a"))
    assert session.finish == Finish(answer="a", reason="majority: 1 of 1 votes")
    with pytest.raises(PolicyError, match="has finished"):
        session.tell(Ended(trace=0, tokens=5, answer="a"))


@given(order=st.permutations(range(6)), answers=st.lists(ANSWER, min_size=6, max_size=6))
def test_self_consistency_does_not_depend_on_the_order_of_ends(
    order: list[int], answers: list[str | None]
) -> None:
    def finish(ends: list[int]) -> Finish | None:
        session = PolicySession(policy=FixedSamples(n=6))
        session.tell(Began())
        for trace in ends:
            session.tell(Ended(trace=trace, tokens=1, answer=answers[trace]))
        return session.finish

    assert finish(order) == finish(sorted(order))


def test_a_cap_holds_for_whatever_is_launched() -> None:
    session = PolicySession(policy=Capped(inner=ProbedConsensus(k=2, cap=50), tokens=30))
    (launch,) = session.tell(Began())
    assert isinstance(launch, Launch)
    assert launch.limit == 30


def test_a_rider_stops_traces_that_the_leader_launched() -> None:
    same = Trace(tokens=100, answer="a")
    policy = Combined(leader=FixedSamples(n=6), riders=(DeepPrune(n=6, prefix=20, k2=2),))
    run = replay(policy, [same] * 6)
    assert run.answer == "a"
    assert sum(isinstance(decided.decision, Stop) for decided in run.log) == 4
    assert run.tokens == 4 * 20 + 2 * 100
    assert run.judged > 0


def test_a_generator_seeds_every_random_choice() -> None:
    stored = [Trace(tokens=50 + i, answer="ab"[i % 2]) for i in range(20)]
    policy = DeepPrune(n=20, prefix=20, k1=1, k2=3)
    runs = {replay(policy, stored, seed).span for seed in range(20)}
    assert len(runs) > 1
    assert DeepPrune().begin(Random(1)).rng.random() == Random(1).random()
