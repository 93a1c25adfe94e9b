"""Learn-then-Test: the threshold under which a judge may prune, if there is one (arXiv 2110.01052).

Thresholds are tested from the strictest on, in an order fixed beforehand, each against the
hypothesis that its mean loss is above the risk; the first that can't be rejected ends the sequence.
So all thresholds before it have at most the risk, with probability 1 - delta over the draw of the
calibration questions, for any distribution of questions and any judge.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import ExtraMissing, InvalidValue
from pruning import DeepPrune, PolicyError, Question, Trace, parse_policy
from pruning.judge.gate import TAUS, Merges, merges, open_gate, shut_gate
from pruning.judge.pairs import mark, unseen
from reasoning.judging.encoders import EXTRA
from reasoning.judging.judge import LearnedJudge
from reasoning.judging.training import check_texts

BOUND = ("n", "prefix", "tau", "k", "k1", "vote", "shut")
"""What the clusters depend on, and so the calibration; ``k2`` and ``k3`` only read them out."""


class Tried(BaseModel):
    """One threshold: the mean loss and merges over questions, and how surely the risk is kept."""

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
        tau: The threshold; None where the gate is shut.
        why: Why it is shut.
        marks: Of the questions that it was calibrated on.
        digest: A hash of the rest, so that an edited file is noticed.
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
    tried: tuple[Tried, ...]
    marks: tuple[str, ...]
    digest: str = ""

    def sealed(self) -> Calibration:
        """With its digest."""
        return self.model_copy(update={"digest": self._digest()})

    @property
    def intact(self) -> bool:
        return self.digest == self._digest()

    def _digest(self) -> str:
        rest = self.model_dump(mode="json", by_alias=True, exclude={"digest"})
        return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()

    @property
    def gated(self) -> DeepPrune:
        """The calibrated policy, with its threshold or shut."""
        policy = parse_policy(self.policy)
        assert isinstance(policy, DeepPrune)
        return shut_gate(policy, self.why) if self.tau is None else open_gate(policy, self.tau)


@dataclass(frozen=True, kw_only=True)
class Goal:
    """The rate of wrong merges that may not be exceeded, but with probability ``delta``."""

    risk: float
    delta: float

    def __post_init__(self) -> None:
        for name in ("risk", "delta"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise InvalidValue(f"{name}: {value} is out of range; give between 0 and 1")

    @property
    def fewest(self) -> int:
        """Questions without which not even a judge that is never wrong is found valid."""
        return math.ceil(math.log(self.delta) / math.log(1 - self.risk))


def calibrate(
    judge: LearnedJudge,
    questions: Sequence[Question],
    goal: Goal,
    *,
    policy: DeepPrune,
    orders: int = 4,
    on_question: Callable[[], None] = lambda: None,
) -> Calibration:
    """Choose the laxest threshold that is shown to keep the goal, on questions new to the judge.

    Raises:
        InvalidValue: no question is new to the judge, or a trace has no text.
    """
    check_texts(questions)
    fresh = unseen(questions, judge.card.seen)
    if not fresh:
        raise InvalidValue("traces: the judge was made with all of these questions; give others")
    found, taus = [], judge.card.taus or TAUS
    for question in fresh:
        found.append(_losses(judge, question, [open_gate(policy, tau) for tau in taus], orders))
        on_question()
    losses = [[row[index].loss for row in found] for index in range(len(taus))]
    p_values, valid = learn_then_test(losses, goal)
    tried = tuple(
        Tried(
            tau=tau,
            loss=round(_mean(losses[index]), 4),
            merges=round(_mean([row[index].count for row in found]), 3),
            p_value=float(f"{p_values[index]:.3g}"),
            valid=index in valid,
        )
        for index, tau in enumerate(taus)
    )
    tau, why = _choice(tried, goal, len(fresh))
    return Calibration(
        judge=judge.fingerprint,
        policy=replace(policy, tau=DeepPrune.tau, shut="").label,
        risk=goal.risk,
        delta=goal.delta,
        questions=len(fresh),
        orders=orders,
        tau=tau,
        why=why,
        tried=tried,
        marks=tuple(sorted(map(mark, fresh))),
    ).sealed()


def learn_then_test(
    losses: Sequence[Sequence[float]], goal: Goal
) -> tuple[list[float], frozenset[int]]:
    """For each row of losses, one a question, a p-value; and which rows keep the goal.

    The p-value is Hoeffding-Bentkus, for losses in [0, 1].  Rows are tested in their order.

    Raises:
        ExtraMissing: MAPIE is not installed.
    """
    try:
        import numpy
        from mapie.risk_control import control_fwer
        from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value
    except ImportError as error:
        raise ExtraMissing(f"a calibration needs mapie; {EXTRA}") from error
    table = numpy.asarray(losses, dtype=float)
    values = compute_hoeffding_bentkus_p_value(table.mean(axis=1), table.shape[1], goal.risk)[:, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of no valid threshold, which is an answer
        kept = control_fwer(values, goal.delta, "fixed_sequence")
    return values.tolist(), frozenset(kept.tolist())


def _losses(
    judge: LearnedJudge, question: Question, policies: Sequence[DeepPrune], orders: int
) -> list[Merges]:
    """By policy, what clustering this question comes to; each pair is judged once."""
    traces = question.traces
    places = [(i, j) for i in range(len(traces)) for j in range(i)]
    prefix = policies[0].prefix
    texts = [judge.texts(traces[i], traces[j], prefix) for i, j in places]
    said = {
        frozenset((id(traces[i]), id(traces[j]))): same
        for (i, j), same in zip(places, judge.judge(texts), strict=True)
    }

    def known(one: Trace, other: Trace, tokens: int) -> float:
        return said[frozenset((id(one), id(other)))]

    return [merges(policy, question, known, orders=orders) for policy in policies]


def _choice(tried: Sequence[Tried], goal: Goal, count: int) -> tuple[float | None, str]:
    """The laxest valid threshold; where it merges nothing, there is nothing to use it for."""
    valid = [one for one in tried if one.valid]
    if valid and valid[-1].merges > 0:
        return valid[-1].tau, ""
    sure = f"with probability {1 - goal.delta:g}"
    if count < goal.fewest:
        return None, (
            f"{count} questions are too few to show a rate of {goal.risk:g} {sure}; "
            f"{goal.fewest} would do at best"
        )
    if valid:
        return None, f"what keeps the rate of wrong merges at {goal.risk:g} {sure} merges nothing"
    return None, f"no tau keeps the rate of wrong merges at {goal.risk:g} {sure}"


# Files.


def write(calibration: Calibration, path: Path) -> None:
    """Store it, whole or not at all.

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
    """The calibration of this judge.

    Raises:
        InvalidValue: it can't be read, was changed, or is of another judge or schema.
    """
    again = "run reason calibrate again"
    try:
        calibration = Calibration.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidValue(f"calibration: {path}: {error.strerror}; {again}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "file"
        raise InvalidValue(f"calibration: {path}: {field}: {first['msg']}; {again}") from error
    if not calibration.intact:
        raise InvalidValue(f"calibration: {path} was changed since it was written; {again}")
    if calibration.judge != judge.fingerprint:
        raise InvalidValue(f"calibration: {path} is of another judge, or of older weights; {again}")
    return calibration


def apply(calibration: Calibration, given: dict[str, Any]) -> DeepPrune:
    """The calibrated policy, with those of ``given`` that its promise does not depend on.

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


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
