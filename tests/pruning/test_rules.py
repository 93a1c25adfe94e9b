"""Each rule against its definition, on traces small enough to check by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning import (
    AdaptiveConsistency,
    AnswerConvergence,
    AsyncConsensus,
    BestOfN,
    BetaBinomial,
    DeepConf,
    DeepConfOffline,
    DeepPrune,
    EarlyStopping,
    FixedSamples,
    HardCap,
    HighestScore,
    Launch,
    MajorityCurve,
    ParallelProbe,
    Policy,
    PolicyError,
    ProbedConsensus,
    Replay,
    Replayed,
    Saturation,
    Stop,
    Trace,
    VotingRounds,
    WeightedVote,
    certainty,
    fit,
    fit_majority,
    fit_theta,
    weigh,
)
from pruning.policies.deepconf import TraceConfidence, percentile
from pruning.policies.rounds import change


def run(policy: Policy[Any], *stored: Trace, every: int = 10, **extra: Any) -> Replayed:
    return Replay(policy=policy, stored=stored, probe_every=every, **extra).run()


def t(tokens: int, answer: str | None, probes: str = "", **extra: Any) -> Trace:
    """A trace; each letter of ``probes`` is a probe's answer, a dot for none."""
    asked = tuple(None if probe == "." else probe for probe in probes)
    return Trace(tokens=tokens, answer=answer, probes=asked, **extra)


# Consensus.


@given(st.integers(0, 30), st.integers(0, 30))
def test_certainty_is_the_upper_half_of_the_beta_distribution(first: int, second: int) -> None:
    points = [(i + 0.5) / 4000 for i in range(4000)]
    density = [p**first * (1 - p) ** second for p in points]
    assert certainty(first, second) == pytest.approx(sum(density[2000:]) / sum(density), abs=1e-4)
    assert certainty(first, second) + certainty(second, first) == pytest.approx(1)
    assert certainty(first + 1, second) > certainty(first, second)


def test_certainty_of_known_counts() -> None:
    assert certainty(0, 0) == 0.5
    assert certainty(3, 0) == 15 / 16  # 1 - 2^-4
    assert certainty(4, 0) == 31 / 32


def test_adaptive_consistency_samples_one_by_one_until_four_agree() -> None:
    done = run(AdaptiveConsistency(), *[t(10, "a")] * 9)
    assert (done.traces, done.tokens, done.span) == (4, 40, 40)
    assert "certainty 0.969" in done.reason


def test_async_consensus_aborts_the_rest() -> None:
    done = run(AsyncConsensus(k=6), *(t(10 * i, "a") for i in range(1, 7)))
    assert (done.answer, done.span) == ("a", 40)
    assert done.tokens == 10 + 20 + 30 + 40 + 40 + 40


def test_async_consensus_replaces_what_ended_up_to_n() -> None:
    stored = [t(10, "a"), t(10, "b"), t(10, "a"), t(10, "b"), t(10, "a")]
    done = run(AsyncConsensus(k=2, n=5), *stored)
    assert (done.traces, done.span, done.answer) == (5, 30, "a")


def test_what_was_cut_votes_only_where_nobody_finished() -> None:
    long = t(100, "b", "bbbb")
    assert run(AsyncConsensus(k=4, cap=40), long, long, long, t(30, "a")).answer == "a"
    assert run(AsyncConsensus(k=3, cap=40), long, long, long).answer == "b"
    assert run(HardCap(n=4, tokens=40), long, long, long, t(30, "a")).answer == "b"


@pytest.mark.parametrize("kind", [AsyncConsensus, ProbedConsensus])
def test_a_second_round_follows_only_where_the_first_settles_nothing(
    kind: type[AsyncConsensus | ProbedConsensus],
) -> None:
    policy = kind(k=4, n=6, patience=4, threshold=0.9, cap=0)
    done = run(policy, *[t(10, a) for a in "abab"], t(30, "b"), t(20, "b"), every=0)
    assert (done.answer, done.traces, done.span) == ("b", 6, 40)
    assert run(policy, *[t(10, "a")] * 6, every=0).traces == 4
    impatient = run(kind(k=2, n=4, threshold=0.999, cap=0), *[t(10 + i, "a") for i in range(4)])
    assert (impatient.traces, impatient.span) == (4, 24)
    assert run(kind(k=2, n=3, patience=9, cap=0), t(10, "a"), t(10, "b"), t(10, "b")).answer == "b"


def test_esc_stops_at_a_unanimous_window() -> None:
    stored = [t(10, a) for a in "abaaabb"]
    done = run(EarlyStopping(w=2, n=6), *stored)
    assert (done.answer, done.traces, done.span) == ("a", 4, 20)


def test_esc_votes_where_no_window_is_unanimous_and_an_abstention_is_none() -> None:
    stored = [t(10, a) for a in ("a", None, "b", "a", None, None)]
    done = run(EarlyStopping(w=2, n=6), *stored)
    assert (done.answer, done.traces) == ("a", 6)


# Probes.


def test_running_traces_confirm_what_one_finished() -> None:
    policy = ProbedConsensus(k=3, cap=0, streak=2, probe_every=10, threshold=0.9)
    done = run(policy, t(35, "a", "baa"), t(90, "a", "baaaaaaaa"), t(90, "x", "xaaaaaaaa"))
    assert (done.answer, done.span, done.tokens) == ("a", 35, 105)
    assert done.reason == "3 with probes to 0: certainty 0.938 ≥ 0.9"


def test_probes_alone_never_end_a_run() -> None:
    policy = ProbedConsensus(k=4, cap=0, streak=2, probe_every=10)
    done = run(policy, *[t(90, "right", "w" * 9)] * 4)
    assert (done.answer, done.span) == ("right", 90)


def test_a_first_guess_confirms_nothing() -> None:
    policy = ProbedConsensus(k=3, cap=0, streak=2, probe_every=10, threshold=0.9)
    done = run(policy, t(35, "a", "aaa"), *[t(90, "b", "aaaaaabbb")] * 2)
    assert (done.answer, done.span) == ("b", 90)


def test_a_streak_that_broke_confirms_nothing() -> None:
    policy = ProbedConsensus(k=3, cap=0, streak=2, probe_every=10, threshold=0.9)
    done = run(policy, t(35, "a", "aaa"), t(90, "b", "xaabbbbbb"), t(95, "b", "xabbbbbbb"))
    assert (done.answer, done.span) == ("b", 95)  # not "a" at 35, which one finished


def test_traces_cut_at_the_cap_count_for_a_part_of_a_vote() -> None:
    policy = ProbedConsensus(k=5, cap=50, streak=2, probe_every=10, threshold=0.999)
    cut = t(90, "b", "bbbbbbbbb")
    assert run(policy, t(20, "a", "aa"), *[cut] * 4).answer == "a"  # 1 : 4/4, the finished first
    assert run(policy, t(20, None, "aa"), *[cut] * 4).answer == "b"


def test_without_probes_only_ends_are_asked() -> None:
    done = run(ProbedConsensus(k=3, threshold=0.9), *[t(30, "a")] * 3, every=0)
    assert (done.answer, done.probes) == ("a", 0)


def test_convergence_needs_equal_answers_that_are_not_empty() -> None:
    policy = AnswerConvergence(n=1, streak=3, probe_every=10)
    done = run(policy, t(100, "z", "...abaaabb"))
    assert (done.answer, done.tokens) == ("a", 80)
    assert run(policy, t(100, "z", "ababababab")).answer == "z"


def test_parallel_probe_drops_whoever_deviates_too_long() -> None:
    policy = ParallelProbe(n=4, probe_every=10, warmup=1, patience=2, stable=9)
    done = run(policy, *[t(100, "a", "a" * 10)] * 3, t(100, "b", "b" * 10))
    stops = [decided.decision for decided in done.log if isinstance(decided.decision, Stop)]
    assert [(stop.trace, stop.reason) for stop in stops] == [
        (3, "against the majority for 2 rounds")
    ]
    assert (done.tokens, done.span) == (3 * 90 + 30, 90)  # stable for 9 rounds


def test_parallel_probe_counts_disagreement_after_the_warmup_only() -> None:
    policy = ParallelProbe(n=3, probe_every=10, warmup=5, patience=2, stable=99)
    done = run(policy, *[t(65, "a", "a" * 6)] * 2, t(65, "b", "b" * 6))
    assert not any(isinstance(decided.decision, Stop) for decided in done.log)


def test_what_needs_probes_says_so() -> None:
    with pytest.raises(PolicyError, match="needs probes, which these traces lack"):
        run(ParallelProbe(), t(10, "a"), every=0)


# Confidence.


def sure(tokens: int, answer: str, *confidences: float) -> Trace:
    return Trace(tokens=tokens, answer=answer, confidences=confidences)


def test_a_group_is_the_mean_of_a_window_of_tokens() -> None:
    confidence = TraceConfidence(window=20)
    assert confidence.add(10, 1.0) is None
    assert confidence.add(20, 3.0) == 2.0
    assert confidence.add(30, 5.0) == 4.0
    assert confidence.lowest == 2.0
    assert [confidence.measure(m) for m in ("mean", "tail", "lowest", "bottom")] == [3, 4, 2, 2]


def test_percentile_interpolates() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.5
    assert percentile([1.0, 2.0], 90) == pytest.approx(1.9)
    assert percentile([7.0], 10) == 7.0


def test_offline_only_the_confident_vote() -> None:
    stored = [sure(20, "a", 1.0, 1.0)] * 3 + [sure(20, "b", 9.0, 9.0)]
    assert run(DeepConfOffline(n=4, keep=25, window=10), *stored).answer == "b"
    assert run(DeepConfOffline(n=4, keep=100, window=10), *stored).answer == "b"  # 9 to 3
    assert run(FixedSamples(n=4), *stored).answer == "a"


def test_online_a_trace_stops_when_its_confidence_falls_below_the_warmups() -> None:
    warm = [sure(30, "a", 5.0, 5.0, 5.0), sure(30, "b", 6.0, 6.0, 6.0)]
    low = sure(30, "b", 5.0, 5.0, 5.0)
    policy = DeepConf(n=4, warmup=2, keep=10, window=10, consensus=1.0)
    done = run(policy, *warm, low, sure(30, "b", 6.0, 6.0, 6.0))
    stops = [decided.decision for decided in done.log if isinstance(decided.decision, Stop)]
    assert stops == []  # the one vote above the threshold of 5.9 is a consensus at once
    assert (done.answer, done.tokens) == ("b", 60)
    warm[1] = sure(30, "b", 6.0, 6.0, 6.0)
    warm[0] = sure(30, "a", 6.0, 6.0, 6.0)
    done = run(policy, *warm, low, sure(30, "b", 6.0, 6.0, 6.0))
    stops = [decided.decision for decided in done.log if isinstance(decided.decision, Stop)]
    assert [(s.trace, s.reason) for s in stops] == [(2, "group confidence 5.00 < 6.00")]
    assert (done.answer, done.tokens) == ("b", 60 + 10 + 30)


# Others.


def test_the_verifier_chooses_and_a_full_score_ends_at_once() -> None:
    stored = [t(10, "a", score=0.1), t(50, "b", score=0.7), t(20, "c", score=0.4)]
    assert run(BestOfN(n=3), *stored).answer == "b"
    done = run(BestOfN(n=3, enough=0.4), *stored)
    assert (done.answer, done.tokens) == ("c", 10 + 20 + 20)


SCORED = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    min_size=1,
    max_size=8,
)


@given(SCORED, st.randoms(use_true_random=False))
def test_bon_is_the_highest_score_and_weighted_the_highest_sum(
    pairs: list[tuple[str | None, float]], rng: Any
) -> None:
    stored = [t(rng.randint(1, 50), answer, score=score) for answer, score in pairs]
    best = run(HighestScore(n=len(pairs)), *stored).answer
    heaviest = run(WeightedVote(n=len(pairs)), *stored).answer
    scores = [(score, answer) for answer, score in pairs if answer is not None]
    if not scores:
        assert best is heaviest is None
        return
    given = [answer for answer, _ in pairs]
    top = max(score for score, _ in scores)
    assert (top, best) in scores
    assert given.count(best) == max(given.count(a) for score, a in scores if score == top)
    sums = {a: sum(score for score, other in scores if other == a) for _, a in scores}
    assert heaviest is not None
    assert sums[heaviest] == max(sums.values())
    alike = [a for a in sums if sums[a] == sums[heaviest]]
    assert given.count(heaviest) == max(map(given.count, alike))


@given(st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=9))
def test_equal_scores_make_a_weighted_vote_the_majority(answers: list[str | None]) -> None:
    stored = [t(10, answer, score=1.0) for answer in answers]
    plain = run(FixedSamples(n=len(answers)), *stored)
    assert run(WeightedVote(n=len(answers)), *stored).answer == plain.answer
    assert run(HighestScore(n=len(answers)), *stored).answer == plain.answer


def test_a_weight_below_zero_is_refused_by_name() -> None:
    with pytest.raises(PolicyError, match=r"score: -1 of trace 1 is below 0.*use bon"):
        run(WeightedVote(n=2), t(10, "a", score=0.5), t(20, "b", score=-1.0))
    stored = t(10, "a", score=-3.0), t(20, "b", score=-1.0), t(5, None)
    assert run(HighestScore(n=3), *stored).answer == "b"


def test_weighted_votes_add_up_by_answer() -> None:
    assert weigh([("a", 1.0), ("b", 1.5), (None, 9.0), ("a", 1.0)]) == {"a": 2.0, "b": 1.5}
    with pytest.raises(ValueError, match="below 0"):
        weigh([("a", -1.0)])


def same(trace: Trace, other: Trace, tokens: int) -> float:
    return float(trace.answer == other.answer)


def test_deepprune_finishes_the_largest_cluster_and_no_other() -> None:
    stored = [t(100, answer) for answer in "abaaba"]
    done = run(DeepPrune(n=6, prefix=20, k2=3), *stored, judge=same)
    assert (done.answer, done.tokens, done.span) == ("a", 3 * 20 + 3 * 100, 100)


def test_deepprune_finishes_k3_where_no_two_prefixes_agree() -> None:
    done = run(DeepPrune(n=4, prefix=20, k3=2), *(t(100, a) for a in "abcd"), judge=same)
    assert done.tokens == 2 * 20 + 2 * 100
    assert done.judged == 0 + 1 + 2 + 3


def test_deepprune_asks_at_most_k1_members_and_opens_at_most_k_clusters() -> None:
    done = run(DeepPrune(n=9, prefix=20, k=1, k1=2), *[t(100, "a")] * 9, judge=same)
    assert done.judged == 0 + 1 + 2 * 7
    done = run(DeepPrune(n=4, prefix=20, k=1), *(t(100, a) for a in "abbb"), judge=same)
    assert done.answer == "a"  # what matches no cluster is dropped once k are open


def test_deepprune_lets_short_traces_vote() -> None:
    stored = [t(10, "z"), *(t(100, "a"), t(100, "a"))]
    assert run(DeepPrune(n=3, prefix=20), *stored, judge=same).answer == "a"
    assert run(DeepPrune(n=1, prefix=20), t(10, "z"), judge=same).answer == "z"


# Saturation.


def test_coverage_is_one_less_the_chance_that_all_fail() -> None:
    uniform = BetaBinomial(alpha=1.0, beta=1.0)
    assert [uniform.coverage(n) for n in range(4)] == pytest.approx([0, 1 / 2, 2 / 3, 3 / 4])


@given(st.floats(0.05, 50), st.floats(0.05, 50), st.integers(0, 200))
def test_a_gain_is_a_step_of_coverage_and_falls(alpha: float, beta: float, n: int) -> None:
    belief = BetaBinomial(alpha=alpha, beta=beta)
    assert belief.gain(n) == pytest.approx(belief.coverage(n + 1) - belief.coverage(n), abs=1e-9)
    assert belief.gain(n + 1) <= belief.gain(n)


def test_saturation_is_the_first_gain_below_epsilon() -> None:
    belief = BetaBinomial(alpha=0.5, beta=1.5)
    star = belief.saturation(0.01)
    assert belief.gain(star) < 0.01 <= belief.gain(star - 1)


def test_the_fit_finds_the_rates_that_made_the_counts() -> None:
    from random import Random

    rng = Random(0)
    counts = []
    for _ in range(400):
        rate = rng.betavariate(0.8, 2.0)
        counts.append((sum(rng.random() < rate for _ in range(64)), 64))
    fitted = fit(counts)
    assert fitted.alpha == pytest.approx(0.8, rel=0.2)
    assert fitted.beta == pytest.approx(2.0, rel=0.2)


def test_one_rate_for_unlike_questions_saturates_too_early() -> None:
    counts = [(40, 64)] * 5 + [(1, 64)] * 5
    rate = sum(s for s, _ in counts) / sum(n for _, n in counts)
    one = next(n for n in range(99) if rate * (1 - rate) ** n < 0.01)
    assert fit(counts).saturation(0.01) > one


# Rounds.


def drawn(masses: list[float], seen: list[int], draws: int) -> float:
    """P(the first of some answers is passed), by every way to draw from their urn."""
    if not draws:
        return float(max(seen[1:]) > seen[0])
    total = sum(masses)
    chance = 0.0
    for k, mass in enumerate(masses):
        more = [m + (i == k) for i, m in enumerate(masses)]
        after = [s + (i == k) for i, s in enumerate(seen)]
        chance += mass / total * drawn(more, after, draws - 1) if mass else 0.0
    return chance


@given(st.integers(1, 4), st.integers(1, 4), st.floats(0.1, 3), st.integers(0, 5))
def test_the_chance_of_a_change_bounds_what_an_urn_does(
    first: int, second: int, theta: float, draws: int
) -> None:
    first, second = max(first, second), min(first, second)
    urn = [float(first), float(second), theta]
    exact = drawn(urn, [first, second, 0], draws)
    found = change({"a": first, "b": second}, draws, theta)
    assert exact - 1e-9 <= found <= 2 * exact + 1e-9
    assert found <= change({"a": first, "b": second}, draws + 2, theta) + 1e-9
    alone = drawn([float(first), theta], [first, 0], draws)
    assert change({"a": first}, draws, theta) == pytest.approx(alone)


@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=24))
def test_rounds_end_when_the_leader_is_likely_to_stay(answers: list[str | None]) -> None:
    policy = VotingRounds(w=3, n=len(answers), epsilon=0.1)
    done = run(policy, *[t(10, answer) for answer in answers])
    said = [answer for answer in answers[: done.traces] if answer is not None]
    assert done.answer == (max(said, key=said.count) if said else None)
    votes = {answer: said.count(answer) for answer in said}
    left = len(answers) - done.traces
    assert left == 0 or change(votes, left, 1.0) < 0.1
    launches = [decided.decision for decided in done.log if isinstance(decided.decision, Launch)]
    assert done.span == 10 * len(launches)
    assert sum(launch.count for launch in launches) == done.traces


def test_a_round_is_never_too_narrow_to_change_the_leader() -> None:
    policy = VotingRounds(w=2, n=40, epsilon=0.01)
    done = run(policy, *[t(10, answer) for answer in "aaaabbbbbb" + "ab" * 20])
    launches = [decided.decision for decided in done.log if isinstance(decided.decision, Launch)]
    assert [launch.count for launch in launches[:3]] == [2, 3, 4]
    assert "chance" in launches[1].reason


def test_agreement_ends_rounds_early_and_disagreement_does_not() -> None:
    assert run(VotingRounds(n=32), *[t(10, "a")] * 32).traces < 12
    assert run(VotingRounds(n=32), *(t(10, "ab"[i % 2]) for i in range(32))).traces == 32


@given(st.floats(0.1, 0.9), st.floats(0.1, 0.9), st.floats(0.05, 0.9))
def test_the_majority_s_curve_is_found_again(single: float, ceiling: float, rate: float) -> None:
    made = MajorityCurve(single=single, ceiling=ceiling, rate=rate)
    found = fit_majority([(n, made.accuracy(n)) for n in (1, 2, 3, 5, 8, 16, 32)])
    for n in (1, 4, 10, 64):
        assert found.accuracy(n) == pytest.approx(made.accuracy(n), abs=0.005)
    star = made.saturation(0.01)
    assert made.gain(star) < 0.01
    assert star == 1 or made.gain(star - 1) >= 0.01


def test_theta_is_found_again_from_what_an_urn_gave() -> None:
    from random import Random

    rng = Random(1)
    counts = []
    for _ in range(400):
        kinds = sum(rng.random() < 2.0 / (2.0 + i) for i in range(32))
        counts.append((kinds, 32))
    assert fit_theta(counts) == pytest.approx(2.0, rel=0.15)
    assert fit_theta([(1, 64)] * 3) == pytest.approx(1e-3, rel=0.01)


def test_what_can_not_be_fitted_is_refused() -> None:
    with pytest.raises(PolicyError, match="three different N"):
        fit_majority([(1, 0.5), (2, 0.6)])
    with pytest.raises(PolicyError, match="counts: give"):
        fit_theta([(3, 2)])


def test_no_more_threads_once_new_answers_are_unlikely() -> None:
    agreed = run(Saturation(k=2, n=40, epsilon=0.1), *[t(10, "a")] * 40)
    mixed = run(Saturation(k=2, n=40, epsilon=0.1), *(t(10, str(i)) for i in range(40)))
    assert agreed.traces < 15
    assert mixed.traces == 40
