"""Clusters of a question's traces by a judge and by baselines, compared with their answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

from pydantic import BaseModel, ConfigDict

from pruning import Question, agree
from reasoning.judging.judge import LearnedJudge


class Clustering(BaseModel):
    """The quality of one way to cluster, as means over questions."""

    model_config = ConfigDict(frozen=True)

    name: str
    rand: float
    """The adjusted Rand index; 0 is chance."""
    homogeneity: float
    completeness: float
    clusters: float


def tfidf(texts: Sequence[str]) -> Any:
    """Cosine similarities of texts by TF-IDF over words and numbers, ``[texts, texts]``."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectoriser = TfidfVectorizer(token_pattern=r"\d+|[^\W\d]+|[^\w\s]", ngram_range=(1, 2))
    rows = vectoriser.fit_transform([text if text.strip() else "∅" for text in texts])
    return (rows @ rows.T).toarray()


def compare(judge: LearnedJudge, questions: Sequence[Question], tau: float) -> list[Clustering]:
    """Average linkage by the judge and by TF-IDF, beside equal prefixes, one cluster, and none."""
    labels: dict[str, list[tuple[list[int], list[int]]]] = {}
    for question in questions:
        truth = _groups(question)
        count = len(truth)
        if count < 3:
            continue
        texts = [judge.cut.of(trace) for trace in question.traces]
        clusters = {
            "judge, average linkage": _linkage(_matrix(judge, question), tau),
            "tf-idf, average linkage": _linkage(tfidf(texts), tau),
            "equal prefixes": [texts.index(text) for text in texts],
            "all one": [0] * count,
            "all apart": list(range(count)),
        }
        for name, labelled in clusters.items():
            labels.setdefault(name, []).append((truth, labelled))
    return [_clustering(name, found) for name, found in labels.items()]


def _groups(question: Question) -> list[int]:
    """The index of an answer's first trace, for each trace; one without an answer is alone."""
    numbered = list(enumerate(question.traces))
    return [next((j for j, one in numbered[:i] if agree(trace, one)), i) for i, trace in numbered]


def _matrix(judge: LearnedJudge, question: Question) -> Any:
    import numpy

    places = list(combinations(range(len(question.traces)), 2))
    said = judge.judge([judge.texts(question.traces[i], question.traces[j]) for i, j in places])
    matrix = numpy.eye(len(question.traces))
    for (i, j), same in zip(places, said, strict=True):
        matrix[i, j] = matrix[j, i] = same
    return matrix


def _linkage(similarity: Any, tau: float) -> list[int]:
    from sklearn.cluster import AgglomerativeClustering

    model = AgglomerativeClustering(
        n_clusters=None, metric="precomputed", linkage="average", distance_threshold=1 - tau
    )
    labels: list[int] = model.fit_predict((1 - similarity).clip(0, 1)).tolist()
    return labels


def _clustering(name: str, found: Sequence[tuple[list[int], list[int]]]) -> Clustering:
    from sklearn import metrics

    def mean(measure: Callable[[list[int], list[int]], float]) -> float:
        values = [float(measure(truth, labels)) for truth, labels in found]
        return round(sum(values) / len(values), 4)

    return Clustering(
        name=name,
        rand=mean(metrics.adjusted_rand_score),
        homogeneity=mean(metrics.homogeneity_score),
        completeness=mean(metrics.completeness_score),
        clusters=mean(lambda truth, labels: len(set(labels))),
    )
