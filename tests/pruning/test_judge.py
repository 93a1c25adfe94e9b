"""What a judge reads and costs, and what policies do with it; no model here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ReasonError
from pruning import (
    AsyncConsensus,
    Began,
    Combined,
    Cut,
    DeepPrune,
    Ended,
    Evaluator,
    Finish,
    FixedSamples,
    Judged,
    Judgement,
    Launch,
    PolicyError,
    PolicySession,
    Question,
    Reached,
    Replay,
    Resume,
    Stop,
    Trace,
    agree,
    pairs,
    read_questions,
)
from pruning.judge.pairs import balanced, mark, oversampled, split, unseen
from reasoning.policies import parse_policy


def t(tokens: int, answer: str | None, text: str = "") -> Trace:
    return Trace(tokens=tokens, answer=answer, text=text)


def same(trace: Trace, other: Trace, tokens: int) -> float:
    return float(trace.answer == other.answer)


def question(*answers: str | None, id: str = "q", tokens: int = 100) -> Question:
    traces = tuple(t(tokens, answer, f"{answer}{i}") for i, answer in enumerate(answers))
    return Question(id=id, right=frozenset({"a"}), traces=traces)


# What is read.


def test_the_first_tokens_are_as_large_a_share_of_the_characters() -> None:
    trace = t(100, "a", "x" * 150 + "y" * 150)
    assert Cut(tokens=50).of(trace) == "x" * 150
    assert Cut(tokens=50).of(trace, written=10) == "x" * 30
    assert Cut(tokens=500).of(trace, written=999) == trace.text


def test_steps_are_the_sentences_that_a_discourse_word_opens() -> None:
    text = "Okay, add them. The sum is 3.5 here. Wait, no.\nThus x=2; so we stop"
    cut = Cut(by="steps", steps=3)
    assert cut.of(t(20, "a", text)) == "Okay, add them.\nWait, no.\nThus x=2;"


def test_each_sentence_is_a_step_where_none_has_a_discourse_word() -> None:
    assert Cut(by="steps", steps=2).of(t(9, "a", "3+4=7 ; 7*2=14 ; 14-1=13")) == "3+4=7 ;\n7*2=14 ;"


@given(st.text(max_size=60), st.integers(1, 40), st.integers(1, 60), st.integers(1, 9))
def test_a_judge_never_reads_what_is_not_written_yet(
    text: str, tokens: int, written: int, steps: int
) -> None:
    trace = t(40, "a", text)
    seen = text[: len(text) * min(written, 40) // 40]
    for cut in (Cut(tokens=tokens), Cut(by="steps", tokens=tokens, steps=steps)):
        assert all(part in seen for part in cut.of(trace, written).split("\n"))


@pytest.mark.parametrize("field", ["tokens", "steps"])
def test_a_cut_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(PolicyError, match=f"{field}: 0 is out of range"):
        Cut(**{field: 0})  # type: ignore[arg-type]


def test_texts_are_read_from_both_formats() -> None:
    traces = {"tokens": 5, "answer": "7", "text": "3+4=7"}
    sampled = {"question_id": "a", "gold": ["7", "07"], "question": "3+4?", "traces": [traces]}
    steps = [
        {"turn": 0, "by": "draft", "text": "one "},
        {"turn": 0, "by": "score", "ppl": 1.5},
        {"turn": 0, "by": "target", "text": "two"},
    ]
    chains = {
        "question_id": "b",
        "gold": "7",
        "chains": [{"final_answer": "7", "steps": steps}],
    }
    one, two = read_questions([json.dumps(sampled), json.dumps(chains)])
    assert (one.words, one.traces[0].text, one.right) == ("3+4?", "3+4=7", {"7", "07"})
    assert two.traces[0].text == "one two"


# Pairs and splits.


def test_two_traces_without_an_answer_do_not_agree() -> None:
    assert agree(t(1, "a"), t(2, "a"))
    assert not agree(t(1, None), t(2, None))
    assert [pair.same for pair in pairs(question("a", "a", None))] == [True, False, False]


def test_balanced_pairs_have_both_classes_alike_whatever_the_difficulty() -> None:
    for answers in ("aaaaaab", "ababab", "abcdeff"):
        drawn = balanced(question(*answers), 12)
        assert sum(pair.same for pair in drawn) * 2 == len(drawn) == 12
    assert balanced(question(*"aaaa"), 12) == balanced(question(*"abcd"), 12) == []


def test_the_rarer_class_is_oversampled_over_all_questions() -> None:
    drawn = [pair for answers in ("aaaa", "aaab") for pair in pairs(question(*answers))]
    assert sum(not pair.same for pair in drawn) == 3
    assert sum(not pair.same for pair in oversampled(drawn)) == 6
    assert sum(pair.same for pair in oversampled(drawn)) == 9


@given(st.integers(2, 40), st.floats(0, 1), st.integers(0, 9))
def test_a_split_keeps_questions_whole_and_apart(count: int, share: float, seed: int) -> None:
    questions = [question("a", id=str(i)) for i in range(count)]
    one, two = split(questions, share, seed=seed)
    assert {q.id for q in one}.isdisjoint(q.id for q in two)
    assert len(one) + len(two) == count
    assert len(two) == round(share * count)
    assert unseen(questions, map(mark, one)) == [q for q in questions if q in two]


def test_a_question_is_recognised_by_its_words_in_any_file() -> None:
    one = Question(id="1", right=frozenset(), traces=(), words="Add 3 and 4")
    two = Question(id="2", right=frozenset(), traces=(), words="Add 3 and 4")
    assert mark(one) == mark(two) != mark(question(id="1"))


# What it costs.


@dataclass
class Priced:
    """Reads each trace once in a run, at a token a character."""

    opened: int = 0

    def __call__(self, trace: Trace, other: Trace, tokens: int) -> float:
        return same(trace, other, tokens)

    def open_session(self) -> PricedSession:
        self.opened += 1
        return PricedSession()


@dataclass
class PricedSession:
    read: set[str] = field(default_factory=set)

    def ask(self, trace: Trace, others: Sequence[Trace], tokens: int) -> list[Judgement]:
        judgements = []
        for other in others:
            new = {trace.text, other.text} - self.read
            self.read |= new
            judgements.append(
                Judgement(same=same(trace, other, tokens), tokens=sum(map(len, new)), seconds=0.5)
            )
        return judgements


def test_each_run_is_charged_for_what_its_judge_reads() -> None:
    stored = question(*"aabaab").traces
    judge = Priced()
    policy = DeepPrune(n=6, prefix=20, k2=2)
    free = Replay(policy=policy, stored=stored, judge=same).run()
    paid = Replay(policy=policy, stored=stored, judge=judge).run()
    assert paid.judge_tokens == 6 * len("a0")
    assert paid.judge_seconds == paid.judged * 0.5
    assert paid.tokens == free.tokens + paid.judge_tokens
    assert (paid.answer, paid.span, paid.log) == (free.answer, free.span, free.log)
    cheap = Replay(policy=policy, stored=stored, judge=judge, judge_price=0.25).run()
    assert cheap.tokens == free.tokens + 3
    assert judge.opened == 2


def test_means_over_questions_show_what_the_judge_read() -> None:
    evaluator = Evaluator(questions=[question(*"aaab")], shuffles=3, judge=Priced())
    summary = evaluator.evaluate(DeepPrune(n=4, prefix=20))
    assert summary.judge_tokens == 4 * len("a0")
    assert summary.judge_seconds > 0


# What policies do with it.


def test_a_soft_vote_is_the_mean_probability() -> None:
    def unsure(trace: Trace, other: Trace, tokens: int) -> float:
        return 0.6 if trace.answer == other.answer else 0.3

    stored = question(*"aaab").traces
    done = Replay(
        policy=DeepPrune(n=4, prefix=20, tau=0.55, vote="soft"), stored=stored, judge=unsure
    ).run()
    assert done.tokens == 3 * 100 + 20
    strict = Replay(
        policy=DeepPrune(n=4, prefix=20, tau=0.65, vote="soft", k3=4), stored=stored, judge=unsure
    ).run()
    assert strict.tokens == 4 * 100  # no two are one: all finish


def test_a_shut_gate_judges_and_prunes_nothing_and_says_why() -> None:
    policy = DeepPrune(n=4, prefix=20, k2=1, shut="no tau is valid")
    stored = question(*"aaab").traces
    done = Replay(policy=policy, stored=stored).run()  # it needs no judge
    plain = Replay(policy=FixedSamples(n=4), stored=stored).run()
    assert (done.answer, done.tokens, done.judged) == (plain.answer, plain.tokens, 0)
    assert isinstance(done.log[0].decision, Launch)
    assert done.log[0].decision.reason == "nothing is pruned: no tau is valid"


def test_a_judge_is_a_rider_of_a_consensus_policy_by_name() -> None:
    policy = parse_policy("async:k=6,threshold=0.8 with deepprune:prefix=20,k2=2")
    assert isinstance(policy, Combined)
    assert parse_policy(policy.label) == policy
    assert policy.needs == {"judge"}
    done = Replay(policy=policy, stored=question(*"ababaa").traces, judge=same).run()
    assert (done.answer, done.tokens) == ("a", 2 * 100 + 4 * 20)
    assert "certainty" in done.reason


def test_a_rider_knows_how_many_traces_its_leader_launches() -> None:
    leader, rider = AsyncConsensus(k=3, n=9, threshold=0.99), DeepPrune(n=64, prefix=20, k2=9)
    policy = Combined(leader=leader, riders=(rider,))
    done = Replay(policy=policy, stored=question(*"abcabcabc").traces, judge=same).run()
    assert isinstance(done.log[-1].decision, Finish)


def test_a_prefix_that_another_policy_stops_delays_nobody() -> None:
    session = PolicySession(policy=DeepPrune(n=3, prefix=20))
    session.tell(Began())
    session.tell(Reached(trace=0, tokens=20))
    session.tell(Reached(trace=1, tokens=20))
    session.tell(Ended(trace=1, tokens=20, answer=None, how="stopped"))
    session.tell(Reached(trace=2, tokens=20))
    decisions = session.tell(Judged(trace=2, other=0, same=1.0))
    assert {d.trace for d in decisions if isinstance(d, Resume)} == {0, 2}
    assert not [d for d in decisions if isinstance(d, Stop)]


@pytest.mark.parametrize("seed", range(5))
def test_a_real_order_of_ends_never_leaves_a_trace_paused(seed: int) -> None:
    rng = Random(seed)
    stored = [t(rng.randint(5, 90), rng.choice("ab")) for _ in range(9)]
    policy = parse_policy("async:k=4,n=9,threshold=0.99 with deepprune:prefix=30,k2=2")
    done = Replay(policy=policy, stored=stored, judge=same).run()
    assert done.answer in {"a", "b"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("deepprune:vote=loud", "vote: 'loud' does not fit; give hard, soft"),
        ("async with nope", "policy 'nope' does not exist"),
        ("async with ", "policy '' does not exist"),
    ],
)
def test_a_bad_policy_is_refused(text: str, message: str) -> None:
    with pytest.raises(ReasonError, match=message):
        parse_policy(text)
