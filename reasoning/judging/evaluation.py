"""How good a judge is: within questions, which is what pruning needs, and pooled, which is not.

A pooled AUROC rewards knowing how hard a question is: an oracle of each question's rate of
agreement, which knows nothing about a pair, has one far above ½.  Within a question it has ½.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.errors import InvalidValue
from pruning import Pair, Question, bootstrap, pairs
from pruning.judge.pairs import unseen
from reasoning.judging.clustering import Clustering, tfidf
from reasoning.judging.clustering import compare as clusterings
from reasoning.judging.judge import LearnedJudge
from reasoning.judging.training import check_texts

RESAMPLES = 200
BINS = 10
PairScores: TypeAlias = dict[str, list[float]]
"""By method, a score of each pair."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Ranking(_Frozen):
    """How well a score ranks pairs that agree above pairs that don't.

    Attributes:
        within: Mean over questions of the AUROC among the pairs of one; ½ is chance.
        pooled: The AUROC over the pairs of all questions together.
    """

    name: str
    within: float
    within_ci95: tuple[float, float]
    pooled: float
    pooled_ci95: tuple[float, float]


class Bin(_Frozen):
    """Pairs of like probability: what was said on average, and how many agreed."""

    said: float
    agreed: float


class Cost(_Frozen):
    """Of judging all pairs of a question's traces, means over questions."""

    tokens: float
    seconds: float


class Evaluation(_Frozen):
    """What ``reason judge eval --json`` prints."""

    schema_: str = Field(default="reason.judge-eval/1", alias="schema")
    judge: str
    form: str
    traces: list[str]
    questions: int
    skipped: int
    """Questions that the judge was made with."""
    mixed: int
    """Questions with pairs of both kinds, over which ``within`` is a mean."""
    pairs: int
    agreeing: float
    """The share of pairs that agree, mean over questions."""
    rankings: list[Ranking]
    """The judge, the difficulty oracle, and cosine of TF-IDF."""
    brier: float
    reliability: list[Bin]
    threshold: float
    """The probability that separates best on these pairs: sensitivity + specificity."""
    tau: float
    clusterings: list[Clustering]
    cost: Cost


@dataclass(frozen=True)
class _Judged:
    """A question with its pairs, and the score of each by each method."""

    question: Question
    pairs: list[Pair]
    scores: PairScores


def evaluate(
    judge: LearnedJudge,
    questions: Sequence[Question],
    *,
    name: str = "judge",
    traces: Sequence[str] = (),
    each: int = 16,
    tau: float = 0.5,
    on_question: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Evaluate a judge on those of the questions that it has not seen.

    Args:
        each: Traces of a question; all their pairs are judged.
        tau: The probability above which clustering takes two for one.

    Raises:
        InvalidValue: no unseen question has pairs of both kinds, or a trace has no text.
    """
    check_texts(questions)
    fresh = [replace(q, traces=q.traces[:each]) for q in unseen(questions, judge.card.seen)]
    judged = []
    for question in fresh:
        if len(question.traces) > 1:
            judged.append(_judge(judge, question))
        on_question()
    mixed = sum(len({pair.same for pair in one.pairs}) == 2 for one in judged)
    if not mixed:
        raise InvalidValue(
            f"traces: of {len(questions)} questions {len(fresh)} are new to the judge and none of "
            "them has pairs of both kinds; give others"
        )
    same = [pair.same for one in judged for pair in one.pairs]
    said = [score for one in judged for score in one.scores["judge"]]
    brier, threshold = _calibration(same, said)
    return Evaluation(
        judge=name,
        form=judge.card.form,
        traces=list(traces),
        questions=len(judged),
        skipped=len(questions) - len(fresh),
        mixed=mixed,
        pairs=len(same),
        agreeing=_mean([_mean([float(pair.same) for pair in one.pairs]) for one in judged]),
        rankings=[_ranking(judged, method) for method in judged[0].scores],
        brier=brier,
        reliability=_reliability(same, said),
        threshold=threshold,
        tau=tau,
        clusterings=clusterings(judge, [one.question for one in judged], tau),
        cost=_cost(judge, [one.question for one in judged]),
    )


def _judge(judge: LearnedJudge, question: Question) -> _Judged:
    drawn = pairs(question)
    said = judge.judge([judge.texts(pair.one, pair.other) for pair in drawn])
    rate = _mean([float(pair.same) for pair in drawn])
    cosines = tfidf([judge.cut.of(trace) for trace in question.traces])
    place = {id(trace): index for index, trace in enumerate(question.traces)}
    lexical = [float(cosines[place[id(pair.one)], place[id(pair.other)]]) for pair in drawn]
    return _Judged(
        question,
        drawn,
        {"judge": said, "difficulty oracle": [rate] * len(drawn), "tf-idf": lexical},
    )


# Ranking.


def _ranking(judged: Sequence[_Judged], method: str) -> Ranking:
    columns = [([p.same for p in one.pairs], one.scores[method]) for one in judged]
    within = [auroc(*column) for column in columns if len(set(column[0])) == 2]
    pooled, low, high = _pooled(columns)
    least, greatest = bootstrap(within)
    return Ranking(
        name=method,
        within=_mean(within),
        within_ci95=(round(least, 4), round(greatest, 4)),
        pooled=pooled,
        pooled_ci95=(low, high),
    )


def auroc(same: Sequence[bool], scores: Sequence[float]) -> float:
    """P(a pair that agrees is scored above one that doesn't), ties half."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(same, scores))


def _pooled(columns: Sequence[tuple[list[bool], list[float]]]) -> tuple[float, float, float]:
    """The pooled AUROC, and its interval from resampling whole questions."""

    def measure(chosen: Sequence[tuple[list[bool], list[float]]]) -> float | None:
        same = [value for column, _ in chosen for value in column]
        scores = [value for _, column in chosen for value in column]
        return round(auroc(same, scores), 4) if len(set(same)) == 2 else None

    rng = Random(0)
    drawn = (measure(rng.choices(columns, k=len(columns))) for _ in range(RESAMPLES))
    ordered = sorted(value for value in drawn if value is not None)
    whole = measure(columns)
    assert whole is not None  # there are mixed questions
    return (
        whole,
        ordered[round(0.025 * (len(ordered) - 1))],
        ordered[round(0.975 * (len(ordered) - 1))],
    )


# Calibration.


def _calibration(same: Sequence[bool], said: Sequence[float]) -> tuple[float, float]:
    from sklearn.metrics import brier_score_loss, roc_curve

    wrong, right, cuts = roc_curve(same, said)
    best = max(range(len(cuts)), key=lambda index: right[index] - wrong[index])
    return round(float(brier_score_loss(same, said)), 4), round(min(1.0, float(cuts[best])), 4)


def _reliability(same: Sequence[bool], said: Sequence[float]) -> list[Bin]:
    from sklearn.calibration import calibration_curve

    agreed, means = calibration_curve(same, said, n_bins=BINS, strategy="quantile")
    return [
        Bin(said=round(float(mean), 4), agreed=round(float(share), 4))
        for mean, share in zip(means, agreed, strict=True)
    ]


def _cost(judge: LearnedJudge, questions: Sequence[Question]) -> Cost:
    """What a run pays that judges every pair once, batches as they were."""
    tokens, seconds = [], []
    for question in questions:
        items = {
            item
            for pair in pairs(question)
            for item in judge.form.items(judge.texts(pair.one, pair.other))
        }
        readings = [judge.cost(item) for item in items]
        tokens.append(float(sum(reading.tokens for reading in readings)))
        seconds.append(sum(reading.seconds for reading in readings))
    return Cost(tokens=_mean(tokens), seconds=_mean(seconds))


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)
