"""Learn-then-Test: choose the threshold at which a judge may prune, if any (arXiv 2110.01052).

Thresholds are tested from the strictest on, in a fixed order.  Each test tries to reject the
hypothesis that the mean loss is above the risk; the first that can't ends the sequence.  So with
probability 1 - delta over the draw of calibration questions, all thresholds before it have at most
the risk, for any distribution of questions and any judge.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import InvalidValue
from orchestrator.journal.codec import why
from pruning import DeepPrune, PolicyError, Question, Trace
from pruning.conformal.p_values import BOLDEST, betting_p_value
from pruning.evaluation.statistics import mean
from pruning.judge.gate import TAUS, MergeRate, merges
from pruning.judge.pairs import mark, unseen
from reasoning.judging.judge import LearnedJudge
from reasoning.judging.training import check_texts
from reasoning.policies import parse_policy

BOUND = ("n", "prefix", "tau", "k", "k1", "vote", "shut")
"""The parameters that the clusters, and so the calibration, depend on; not ``k2`` and ``k3``."""


class ThresholdTest(BaseModel):
    """A threshold with its mean loss and merges over questions, and the p-value of its test."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tau: float
    loss: float
    merges: float
    p_value: float
    valid: bool


class Calibration(BaseModel):
    """What ``reason calibrate`` writes.

    Attributes:
        judge: The fingerprint of the judge.
        policy: The policy that was calibrated, without its threshold.
        tau: The chosen threshold; None where the judge may not prune.
        why: Why it may not.
        marks: The marks of the questions that it was calibrated on.
        digest: A hash of the other fields, by which an edited file is noticed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal["reason.calibration/1"] = Field(default="reason.calibration/1", alias="schema")
    judge: str
    policy: str
    risk: float = Field(gt=0, lt=1)
    delta: float = Field(gt=0, lt=1)
    questions: int
    orders: int
    tau: float | None
    why: str
    tried: tuple[ThresholdTest, ...]
    marks: tuple[str, ...]
    digest: str = ""

    def sealed(self) -> Calibration:
        """This calibration with its digest."""
        return self.model_copy(update={"digest": self._digest()})

    @property
    def intact(self) -> bool:
        """Whether the digest is that of the other fields."""
        return self.digest == self._digest()

    def _digest(self) -> str:
        rest = self.model_dump(mode="json", by_alias=True, exclude={"digest"})
        return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()

    @property
    def gated(self) -> DeepPrune:
        """The calibrated policy: with its threshold, or without pruning."""
        policy = parse_policy(self.policy)
        assert isinstance(policy, DeepPrune)
        tau = policy.tau if self.tau is None else self.tau
        return replace(policy, tau=tau, shut="" if self.tau is not None else self.why)


@dataclass(frozen=True, kw_only=True)
class RiskTarget:
    """The rate of wrong merges that may be exceeded with probability ``delta`` only."""

    risk: float
    delta: float

    def __post_init__(self) -> None:
        for name in ("risk", "delta"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise InvalidValue(f"{name}: {value} is out of range; give between 0 and 1")

    @property
    def fewest(self) -> int:
        """The fewest questions that can show the risk, even for a judge that is never wrong."""
        at_best = math.log(1 / self.delta) / math.log(1 + BOLDEST * self.risk / (1 - self.risk))
        counts = itertools.count(math.ceil(at_best))
        return next(n for n in counts if self.p_value([0.0] * n) <= self.delta)

    def p_value(self, losses: Sequence[float]) -> float:
        """How well losses, one for each question in a random order, agree with a larger risk."""
        return betting_p_value(losses, self.risk, delta=self.delta)


def calibrate(
    judge: LearnedJudge,
    questions: Sequence[Question],
    target: RiskTarget,
    *,
    policy: DeepPrune,
    orders: int = 4,
    on_question: Callable[[], None] = lambda: None,
) -> Calibration:
    """Choose the laxest threshold that is shown to keep the target, on questions new to the judge.

    Raises:
        InvalidValue: no question is new to the judge, or a trace has no text.
    """
    check_texts(questions)
    fresh = sorted(unseen(questions, judge.card.seen), key=mark)  # a file may go from easy to hard
    if not fresh:
        raise InvalidValue("traces: the judge was made with all of these questions; give others")
    taus, rates = judge.card.taus or TAUS, []
    policies = [replace(policy, tau=tau, shut="") for tau in taus]
    for question in fresh:
        rates.append(_rates(judge, question, policies, orders))
        on_question()
    tried = _test(taus, rates, target)
    tau, reason = _choice(tried, target, len(fresh))
    return Calibration(
        judge=judge.fingerprint,
        policy=replace(policy, tau=DeepPrune.tau, shut="").label,
        risk=target.risk,
        delta=target.delta,
        questions=len(fresh),
        orders=orders,
        tau=tau,
        why=reason,
        tried=tried,
        marks=tuple(sorted(map(mark, fresh))),
    ).sealed()


def _test(
    taus: Sequence[float], rates: Sequence[Sequence[MergeRate]], target: RiskTarget
) -> tuple[ThresholdTest, ...]:
    columns = list(zip(*rates, strict=True))
    p_values, valid = learn_then_test([[one.loss for one in column] for column in columns], target)
    return tuple(
        ThresholdTest(
            tau=tau,
            loss=round(mean([one.loss for one in column]), 4),
            merges=round(mean([one.count for one in column]), 3),
            p_value=float(f"{p_values[index]:.3g}"),
            valid=index in valid,
        )
        for index, (tau, column) in enumerate(zip(taus, columns, strict=True))
    )


def learn_then_test(
    losses: Sequence[Sequence[float]], target: RiskTarget
) -> tuple[list[float], frozenset[int]]:
    """Test rows of losses in [0, 1], one loss for each question, in their order.

    Returns the p-value of each row, and the indices of the rows that keep the target: those before
    the first that can't be shown to.
    """
    values = [target.p_value(row) for row in losses]
    kept = itertools.takewhile(lambda index: values[index] <= target.delta, range(len(values)))
    return values, frozenset(kept)


def _rates(
    judge: LearnedJudge, question: Question, policies: Sequence[DeepPrune], orders: int
) -> list[MergeRate]:
    """The merges of this question under each policy; each pair is judged once."""
    drawn = list(itertools.combinations(question.traces, 2))
    texts = [judge.texts(one, other, policies[0].prefix) for one, other in drawn]
    said = {
        frozenset((id(one), id(other))): same
        for (one, other), same in zip(drawn, judge.judge(texts), strict=True)
    }

    def known(one: Trace, other: Trace, tokens: int) -> float:
        return said[frozenset((id(one), id(other)))]

    return [merges(policy, question, known, orders=orders) for policy in policies]


def _choice(
    tried: Sequence[ThresholdTest], target: RiskTarget, count: int
) -> tuple[float | None, str]:
    """The laxest valid threshold, or why there is none of use: one that merges nothing is not."""
    valid = [one for one in tried if one.valid]
    if valid and valid[-1].merges > 0:
        return valid[-1].tau, ""
    sure = f"with probability {1 - target.delta:g}"
    if count < target.fewest:
        return None, (
            f"{count} questions are too few to show a rate of {target.risk:g} {sure}; "
            f"{target.fewest} would do at best"
        )
    if valid:
        return None, f"what keeps the rate of wrong merges at {target.risk:g} {sure} merges nothing"
    return None, f"no tau keeps the rate of wrong merges at {target.risk:g} {sure}"


# Files.


def write(calibration: Calibration, path: Path) -> None:
    """Write a calibration to a file, whole or not at all.

    Raises:
        InvalidValue: the file can't be written.
    """
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_text(calibration.model_dump_json(by_alias=True, indent=2) + "\n")
        os.replace(partial, path)
    except OSError as error:
        raise InvalidValue(f"output: {path}: {error.strerror}; give another file") from error
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path, judge: LearnedJudge) -> Calibration:
    """Read the calibration of a judge from a file.

    Raises:
        InvalidValue: the file can't be read, was changed, or is of another judge or schema.
    """
    again = "run reason calibrate again"
    try:
        calibration = Calibration.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidValue(f"calibration: {path}: {error.strerror}; {again}") from error
    except ValidationError as error:
        raise InvalidValue(f"calibration: {path}: {why(error)}; {again}") from error
    if not calibration.intact:
        raise InvalidValue(f"calibration: {path} was changed since it was written; {again}")
    if calibration.judge != judge.fingerprint:
        raise InvalidValue(f"calibration: {path} is of another judge, or of older weights; {again}")
    return calibration


def apply(calibration: Calibration, given: dict[str, Any]) -> DeepPrune:
    """The calibrated policy, with those parameters of ``given`` that the calibration does not bind.

    Raises:
        InvalidValue: another threshold, or another of the parameters that were calibrated.
    """
    gated = calibration.gated
    for name, value in given.items():
        if name in BOUND and value != getattr(gated, name):
            raise InvalidValue(
                f"calibration: it is of {name}={getattr(gated, name)}, not {value}; leave {name} "
                "out, or calibrate again"
            )
    try:
        return replace(gated, **{k: v for k, v in given.items() if k not in BOUND})
    except PolicyError as error:
        raise InvalidValue(str(error)) from error
