"""How well a judge ranks pairs within questions, which pruning needs, and over all questions.

A pooled AUROC rewards a judge that knows how hard a question is.  An oracle that knows how often
the traces of each question agree, and nothing about a pair, has a pooled AUROC far above ½, and
exactly ½ within questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.errors import InvalidValue
from pruning import Pair, Question, mean_interval, pairs
from pruning.judge.pairs import unseen
from reasoning.judging.clustering import Clustering, tfidf
from reasoning.judging.clustering import compare as clusterings
from reasoning.judging.judge import LearnedJudge
from reasoning.judging.training import check_texts

RESAMPLES = 200
BINS = 10
PairScores: TypeAlias = dict[str, list[float]]
"""By method, the score of each pair."""


class _FrozenModel(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Ranking(_FrozenModel):
    """How well a score ranks pairs that agree above pairs that don't.

    Attributes:
        within: The AUROC among the pairs of a question, as a mean over questions; ½ is chance.
        pooled: The AUROC over the pairs of all questions together.
    """

    name: str
    within: float
    within_ci95: tuple[float, float]
    pooled: float
    pooled_ci95: tuple[float, float]


class ReliabilityBin(_FrozenModel):
    """Pairs of similar probability: the mean probability, and the share that agreed."""

    said: float
    agreed: float


class JudgingCost(_FrozenModel):
    """The cost of judging all pairs of a question's traces, as means over questions."""

    tokens: float
    seconds: float


class Evaluation(_FrozenModel):
    """What ``reason judge eval --json`` prints."""

    schema_: str = Field(default="reason.judge-eval/1", alias="schema")
    judge: str
    form: str
    traces: list[str]
    questions: int
    skipped: int
    """Questions that the judge was trained on."""
    mixed: int
    """Questions with pairs that agree and pairs that don't; ``within`` is a mean over these."""
    pairs: int
    agreeing: float
    """The share of pairs that agree, as a mean over questions."""
    rankings: list[Ranking]
    """Of the judge, of the difficulty oracle, and of the cosine of TF-IDF."""
    brier: float
    reliability: list[ReliabilityBin]
    threshold: float
    """The probability with the greatest sensitivity + specificity on these pairs."""
    tau: float
    clusterings: list[Clustering]
    cost: JudgingCost


@dataclass(frozen=True)
class _JudgedQuestion:
    """A question with its pairs, and the score of each by each method."""

    question: Question
    pairs: list[Pair]
    scores: PairScores

    @property
    def labels(self) -> list[bool]:
        """Whether each pair agrees."""
        return [pair.same for pair in self.pairs]

    @property
    def mixed(self) -> bool:
        """Whether there are pairs of both kinds."""
        return len(set(self.labels)) == 2


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """How to evaluate a judge.

    Attributes:
        name: The judge's name in the result.
        traces: The names of the files of traces, in the result.
        each: Use so many traces of each question, and all their pairs.
        tau: Clustering takes two traces for one above this probability.
        on_question: Called whenever a question is done.
    """

    name: str = "judge"
    traces: Sequence[str] = ()
    each: int = 16
    tau: float = 0.5
    on_question: Callable[[], None] = field(default=lambda: None)


def evaluate(
    judge: LearnedJudge, questions: Sequence[Question], options: EvaluationOptions | None = None
) -> Evaluation:
    """Evaluate a judge on those questions that it has not seen.

    Raises:
        InvalidValue: no unseen question has pairs of both kinds, or a trace has no text.
    """
    options = options or EvaluationOptions()
    check_texts(questions)
    fresh = unseen(questions, judge.card.seen)
    judged = []
    for question in fresh:
        if len(question.traces) > 1:
            judged.append(_judge(judge, replace(question, traces=question.traces[: options.each])))
        options.on_question()
    mixed = sum(one.mixed for one in judged)
    if not mixed:
        raise InvalidValue(
            f"traces: {len(fresh)} are new, and none of them has pairs of both kinds; give others"
        )
    same = [label for one in judged for label in one.labels]
    said = [score for one in judged for score in one.scores["judge"]]
    brier, threshold = _calibration(same, said)
    chosen = [one.question for one in judged]
    return Evaluation(
        judge=options.name,
        form=judge.card.form,
        traces=list(options.traces),
        questions=len(judged),
        skipped=len(questions) - len(fresh),
        mixed=mixed,
        pairs=len(same),
        agreeing=_mean([_mean(one.labels) for one in judged]),
        rankings=[_ranking(judged, method) for method in judged[0].scores],
        brier=brier,
        reliability=_reliability(same, said),
        threshold=threshold,
        tau=options.tau,
        clusterings=clusterings(judge, chosen, options.tau),
        cost=_cost(judge, chosen),
    )


def _judge(judge: LearnedJudge, question: Question) -> _JudgedQuestion:
    drawn = pairs(question)
    probabilities = judge.judge([judge.texts(pair.one, pair.other) for pair in drawn])
    rate = _mean([pair.same for pair in drawn])
    cosines = tfidf([judge.cut.of(trace) for trace in question.traces])
    index = {id(trace): number for number, trace in enumerate(question.traces)}
    lexical = [float(cosines[index[id(pair.one)], index[id(pair.other)]]) for pair in drawn]
    scores = {"judge": probabilities, "difficulty oracle": [rate] * len(drawn), "tf-idf": lexical}
    return _JudgedQuestion(question, drawn, scores)


# Ranking.


def _ranking(judged: Sequence[_JudgedQuestion], method: str) -> Ranking:
    columns = [(one.labels, one.scores[method]) for one in judged]
    within = [auroc(one.labels, one.scores[method]) for one in judged if one.mixed]
    pooled, interval = _pooled(columns)
    least, greatest = mean_interval(within)
    return Ranking(
        name=method,
        within=_mean(within),
        within_ci95=(round(least, 4), round(greatest, 4)),
        pooled=pooled,
        pooled_ci95=interval,
    )


def auroc(same: Sequence[bool], scores: Sequence[float]) -> float:
    """P(a pair that agrees has a higher score than one that doesn't), where ties count half."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(same, scores))


def _pooled(columns: Sequence[tuple[list[bool], list[float]]]) -> tuple[float, tuple[float, float]]:
    """The pooled AUROC, and its 95 % interval from resampling whole questions."""

    def measure(chosen: Sequence[tuple[list[bool], list[float]]]) -> float | None:
        same = [value for column, _ in chosen for value in column]
        scores = [value for _, column in chosen for value in column]
        return round(auroc(same, scores), 4) if len(set(same)) == 2 else None

    rng = Random(0)
    drawn = (measure(rng.choices(columns, k=len(columns))) for _ in range(RESAMPLES))
    ordered = sorted(value for value in drawn if value is not None)
    whole = measure(columns)
    assert whole is not None  # there are mixed questions
    last = len(ordered) - 1
    return whole, (ordered[round(0.025 * last)], ordered[round(0.975 * last)])


# Calibration.


def _calibration(same: Sequence[bool], said: Sequence[float]) -> tuple[float, float]:
    from sklearn.metrics import brier_score_loss, roc_curve

    wrong, right, cuts = roc_curve(same, said)
    best = max(range(len(cuts)), key=lambda index: right[index] - wrong[index])
    return round(float(brier_score_loss(same, said)), 4), round(min(1.0, float(cuts[best])), 4)


def _reliability(same: Sequence[bool], said: Sequence[float]) -> list[ReliabilityBin]:
    from sklearn.calibration import calibration_curve

    agreed, means = calibration_curve(same, said, n_bins=BINS, strategy="quantile")
    return [
        ReliabilityBin(said=round(float(mean), 4), agreed=round(float(share), 4))
        for mean, share in zip(means, agreed, strict=True)
    ]


def _cost(judge: LearnedJudge, questions: Sequence[Question]) -> JudgingCost:
    """The cost of a run that judges every pair once, in the batches of this evaluation."""
    tokens, seconds = [], []
    for question in questions:
        items = {
            item
            for pair in pairs(question)
            for item in judge.form.items(judge.texts(pair.one, pair.other))
        }
        readings = [judge.cost(item) for item in items]
        tokens.append(sum(reading.tokens for reading in readings))
        seconds.append(sum(reading.seconds for reading in readings))
    return JudgingCost(tokens=_mean(tokens), seconds=_mean(seconds))


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)
