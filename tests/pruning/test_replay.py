"""The replay's clock, what it charges, and the comparison that stands beside each policy."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, ClassVar

import pytest

from pruning import (
    AsyncConsensus,
    ConformalController,
    Decisions,
    Ended,
    Evaluator,
    Finish,
    FixedSamples,
    Launch,
    Observation,
    Pause,
    Policy,
    PolicyError,
    Probe,
    Probed,
    Question,
    Reached,
    Replay,
    Resume,
    StepScored,
    Stop,
    Trace,
)
from reasoning.policies import parse_policy


class Script(Policy[list[Observation]]):
    """Decides by a table from what it is told to what it answers, and keeps what it was told."""

    name: ClassVar[str] = "script"

    def __init__(self, **answers: Sequence[Any]) -> None:
        self.answers = answers
        self.observed: list[Observation] = []

    def begin(self, rng: Random) -> list[Observation]:
        return self.observed

    def observe(self, state: list[Observation], observation: Observation) -> Decisions:
        state.append(observation)
        return tuple(self.answers.pop(type(observation).__name__, ()))


END = Finish(answer="x", reason="enough")


def test_traces_advance_in_lock_step_and_ties_are_in_launch_order() -> None:
    script = Script(Began=[Launch(count=3, reason="go", probe_every=10)])
    stored = [
        Trace(tokens=20, answer="a", probes=("p", "q")),
        Trace(tokens=15, answer="b", probes=("r",)),
        Trace(tokens=20, answer="c", probes=("s",)),
    ]
    with pytest.raises(PolicyError, match="'script' never finished"):
        Replay(policy=script, stored=stored, probe_every=10).run()
    seen = [(o.tokens, o.trace, o.answer) for o in script.observed if isinstance(o, Probed | Ended)]
    assert seen == [
        (10, 0, "p"),
        (10, 1, "r"),
        (10, 2, "s"),
        (15, 1, "b"),
        (20, 0, "q"),
        (20, 0, "a"),
        (20, 2, None),  # no probe was stored there
        (20, 2, "c"),
    ]


def test_what_is_aborted_costs_what_it_wrote() -> None:
    script = Script(Began=[Launch(count=2, reason="go")], Ended=[END])
    run = Replay(policy=script, stored=[Trace(tokens=7, answer="a"), Trace(tokens=90, answer="b")])
    done = run.run()
    assert (done.answer, done.tokens, done.span, done.traces) == ("x", 14, 7, 2)


def test_a_later_launch_starts_at_the_clock() -> None:
    script = Script(
        Began=[Launch(count=1, reason="go")],
        Ended=[Launch(count=1, reason="more", mark=5)],
        Reached=[END],
    )
    done = Replay(policy=script, stored=[Trace(tokens=10, answer="a")] * 2).run()
    assert (done.tokens, done.span) == (15, 15)
    assert Reached(trace=1, tokens=5) in script.observed


def test_a_stopped_trace_is_told_once_and_has_no_answer() -> None:
    script = Script(
        Began=[Launch(count=2, reason="go", mark=4)],
        Reached=[Stop(trace=1, reason="no"), Stop(trace=1, reason="again")],
    )
    with pytest.raises(PolicyError, match="never finished"):
        Replay(policy=script, stored=[Trace(tokens=10, answer="a")] * 2).run()
    ends = [o for o in script.observed if isinstance(o, Ended)]
    assert ends == [
        Ended(trace=1, tokens=4, answer=None, how="stopped"),
        Ended(trace=0, tokens=10, answer="a"),
    ]


def test_a_limit_ends_a_trace_with_the_answer_of_its_last_probe() -> None:
    script = Script(Began=[Launch(count=1, reason="go", limit=25)], Ended=[END])
    stored = [Trace(tokens=90, answer="a", probes=("p", "q", "r"))]
    done = Replay(policy=script, stored=stored, probe_every=10).run()
    assert script.observed[-1] == Ended(trace=0, tokens=25, answer="q", how="length")
    assert done.probes == 1


def test_a_limit_at_the_very_end_cuts_nothing() -> None:
    script = Script(Began=[Launch(count=1, reason="go", limit=25)], Ended=[END])
    Replay(policy=script, stored=[Trace(tokens=25, answer="a")]).run()
    assert script.observed[-1] == Ended(trace=0, tokens=25, answer="a")


def test_a_paused_trace_costs_nothing_until_it_goes_on() -> None:
    script = Script(
        Began=[Launch(count=1, reason="go", mark=4), Launch(count=1, reason="go")],
        Reached=[Pause(trace=0, reason="wait")],
        Ended=[Resume(trace=0, reason="go on")],
    )
    stored = [Trace(tokens=10, answer="a"), Trace(tokens=7, answer="b")]
    run = Replay(policy=script, stored=stored)
    with pytest.raises(PolicyError, match="never finished"):
        run.run()
    assert script.observed[-1] == Ended(trace=0, tokens=10, answer="a")
    assert (run.policy_run.clock, run.policy_run.tokens) == (7 + 6, 17)


def test_a_probe_asked_for_is_the_last_one_stored_and_is_charged() -> None:
    script = Script(
        Began=[Launch(count=1, reason="go", mark=17)],
        Reached=[Probe(trace=0, reason="now?")],
        Probed=[END],
    )
    stored = [Trace(tokens=90, answer="a", probes=("p", "q"))]
    done = Replay(policy=script, stored=stored, probe_every=10, probe_tokens=5).run()
    assert script.observed[-1] == Probed(trace=0, tokens=10, answer="p")
    assert (done.tokens, done.span, done.probes) == (17 + 5, 17, 1)


def test_no_more_traces_start_than_are_stored() -> None:
    done = Replay(policy=FixedSamples(n=64), stored=[Trace(tokens=3, answer="a")] * 2).run()
    assert done.traces == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("deepprune", "needs judge"),
        ("deepconf", "needs confidence"),
        ("best-of-n", "needs verifier"),
        ("bon", "needs score"),
        ("weighted", "needs score"),
        ("convergence", "needs probes"),
    ],
)
def test_what_is_not_stored_is_missed_by_name(name: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        Replay(policy=parse_policy(name), stored=[Trace(tokens=3, answer="a")]).run()


def test_single_steps_are_not_replayed_over_whole_traces() -> None:
    with pytest.raises(PolicyError, match="needs target"):
        Replay(policy=ConformalController(), stored=[Trace(tokens=3, answer="a")]).run()
    assert StepScored(trace=0, turn=0, score=1.0)


# Over questions.


def question(id: str, right: str, *answers: str) -> Question:
    traces = tuple(Trace(tokens=10 + i, answer=a) for i, a in enumerate(answers))
    return Question(id=id, right=frozenset({right}), traces=traces)


QUESTIONS = [
    question("easy", "1", *"11111111"),
    question("even", "1", *"11112222"),
    question("hard", "1", *"22222221"),
]


def test_means_are_over_shuffles_and_then_over_questions() -> None:
    summary = Evaluator(questions=QUESTIONS, shuffles=200).evaluate(FixedSamples(n=1))
    assert [o.accuracy for o in summary.outcomes] == pytest.approx([1, 0.5, 0.125], abs=0.08)
    assert summary.accuracy == pytest.approx(sum(o.accuracy for o in summary.outcomes) / 3)
    assert summary.n == 3
    assert summary.ci95[0] <= summary.accuracy <= summary.ci95[1]


def test_every_policy_sees_the_same_orders() -> None:
    ours, theirs = (Evaluator(questions=QUESTIONS, seed=3) for _ in "12")
    theirs.evaluate(AsyncConsensus(k=3))
    assert ours.evaluate(FixedSamples(n=4)) == theirs.evaluate(FixedSamples(n=4))
    assert ours.order(QUESTIONS[1], 0) != ours.order(QUESTIONS[1], 1)


def test_a_policy_is_compared_at_equal_traces_and_equal_tokens() -> None:
    compared = Evaluator(questions=QUESTIONS).compare(AsyncConsensus(k=8, threshold=0.8))
    assert compared.n_matched.policy == "sc:n=8"
    ours, matched = compared.summary.tokens, compared.token_matched.tokens
    assert matched == pytest.approx(ours)
    n_gain, _ = compared.gains
    assert n_gain.mean == pytest.approx(compared.summary.accuracy - compared.n_matched.accuracy)
