"""Questions and samples as another program's file has them, and how they become traces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pruning import Question, Trace, TracesError, answer_texts, estimated_tokens
from reasoning.problems.answers import AUTO, AnswerFormat, read_answer
from reasoning.problems.equality import canonical
from reasoning.problems.equality.algebra import Equivalence

CONFIDENCE_EVERY = 128
"""Tokens over which confidences are averaged: a sixteenth of DeepConf's window."""
SampleEnd = Literal["own", "length", "stopped"]


@dataclass(frozen=True, kw_only=True)
class ImportedSample:
    """One answer of a model.

    Attributes:
        text: All that it wrote; thoughts that were stored apart stand in ``<think>`` before it.
        answer: As whoever wrote the file read it, empty where they found none; None: not stored.
        tokens: What it wrote; None where that is not stored.
        counted: Whether ``tokens`` is a count, and not a share of one.
        end: Whether it came to its own end, its length's limit, or was stopped by a policy.
        right: What the file's own scorer said; None where there was none.
        confidences: Of each token, where stored.
    """

    text: str
    answer: str | None = None
    tokens: int | None = None
    counted: bool = True
    end: SampleEnd = "own"
    right: bool | None = None
    confidences: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class ImportedQuestion:
    """A question and the samples of it in one file.

    Attributes:
        gold: Its right answers; empty where the file has none.
        words: What was asked; empty where that is not stored.
    """

    id: str
    words: str
    gold: tuple[str, ...]
    samples: tuple[ImportedSample, ...]


def thought(thoughts: str | None, said: str | None) -> str:
    """What a model wrote, where its thoughts were stored apart."""
    return f"<think>{thoughts}</think>{said or ''}" if thoughts else said or ""


def told_gold(value: Any) -> tuple[str, ...]:
    """The right answers that another program stored; none where it has objects in their place."""
    try:
        return tuple(answer_texts(value))
    except TracesError:
        return ()


def gold_answer(text: str) -> str:
    """The right answer that a target states, as ``#### 5`` behind a worked solution does."""
    worked = "####" in text or "\\boxed" in text
    return (read_answer(text).answer if worked else None) or text.strip()


def as_question(
    imported: ImportedQuestion, *, answer: AnswerFormat | None = None, scored: bool = False
) -> Question:
    """The question with traces, its answers as they were written.

    Args:
        answer: How answers are read from the texts; None: where the file has none, in any form.
        scored: The right answers are those of samples that the file's scorer found right.

    Raises:
        TracesError: nothing says which answers are right, or nothing was sampled.
    """
    if not imported.samples:
        raise TracesError(f"{imported.id}: no sample; give a file in which each question has one")
    traces = tuple(_trace(one, imported.words, answer) for one in imported.samples)
    right = frozenset(gold_answer(gold) for gold in imported.gold)
    if scored or not right:
        if all(one.right is None for one in imported.samples):
            raise TracesError(
                f"{imported.id}: nothing says which answer is right; give --gold FILE, JSON lines "
                "or CSV with id (or question) and gold"
            )
        right = frozenset(trace.answer for trace in traces if trace.score and trace.answer)
    return Question(
        id=imported.id,
        right=right,
        traces=traces,
        probe_every=CONFIDENCE_EVERY if any(one.confidences for one in imported.samples) else 0,
        words=imported.words,
        ordered=any(one.end == "stopped" for one in imported.samples),
    )


def _trace(sample: ImportedSample, words: str, format: AnswerFormat | None) -> Trace:
    if format is None and sample.answer is not None:
        found = sample.answer.strip() or None
    else:
        own = sample.end == "own"
        found = read_answer(sample.text, format or AUTO, question=words, finished=own).answer
    tokens = estimated_tokens(sample.text) if sample.tokens is None else sample.tokens
    return Trace(
        # An end that a policy made is not the trace's own: that would come later.
        tokens=max(1, tokens + (sample.end == "stopped")),
        answer=found,
        confidences=tuple(_means(sample.confidences)),
        score=None if sample.right is None else float(sample.right),
        text=sample.text,
        estimated=sample.tokens is None or not sample.counted,
    )


def _means(confidences: Sequence[float]) -> Iterable[float]:
    """The mean of each whole stretch of `CONFIDENCE_EVERY` tokens."""
    every = CONFIDENCE_EVERY
    for begin in range(0, len(confidences) - every + 1, every):
        yield sum(confidences[begin : begin + every]) / every


def shares(tokens: int | None, texts: Sequence[str]) -> list[tuple[int | None, bool]]:
    """What each of several texts has of the tokens that all have, and whether that was counted.

    A server counts the choices of a request together; each gets its share by its length.
    """
    if tokens is None or len(texts) == 1:
        return [(tokens, True)] * len(texts)
    lengths = [max(1, len(text)) for text in texts]
    return [(max(1, round(tokens * one / sum(lengths))), False) for one in lengths]


def with_keys(question: Question) -> Question:
    """A question with the keys of its answers, so that equal ones are equal strings.

    Where algebra equates a given answer with a right one, it has the right one's key.
    """
    answers = [answer for one in question.traces for answer in (one.answer, *one.probes) if answer]
    words = question.words
    keys = {one: canonical(one, words) or one for one in (*sorted(question.right), *answers)}
    equivalence = Equivalence(words)
    equivalence.compare(keys.values())

    def name(answer: str | None) -> str | None:
        return equivalence.known(keys[answer]) if answer else None

    traces = (
        replace(trace, answer=name(trace.answer), probes=tuple(map(name, trace.probes)))
        for trace in question.traces
    )
    right = frozenset(equivalence.known(keys[one]) for one in question.right)
    return replace(question, right=right, traces=tuple(traces))
