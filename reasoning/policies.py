"""Policies by name: ``NAME:key=value``, ``LEADER with RIDER``, ``deepprune:judge=FOLDER``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.errors import InvalidValue
from pruning import Combined, DeepPrune, Judge, Policy
from pruning.policies import POLICIES as KINDS
from reasoning.registry import KindRegistry

WITH = " with "

POLICIES: KindRegistry[Policy[Any]] = KindRegistry(
    "policy", base=Policy, group="parallel_reason.policies", kinds=KINDS
)
"""The policies of `pruning`, a user's own, and those of installed packages."""


@dataclass(frozen=True, kw_only=True)
class SteeredBy:
    """A policy and the judge that it asks.

    Attributes:
        seen: Marks of the questions that the judge or its calibration were made with.
    """

    policy: Policy[Any]
    judge: Judge | None = None
    seen: frozenset[str] = frozenset()


def parse_policy(text: str) -> Policy[Any]:
    """The policy that a text names, without its judge; `Policy.label` is the inverse.

    Raises:
        UnknownName, InvalidValue: as `KindRegistry.make`.
    """
    return steered_by(text).policy


def steered_by(policy: str | Policy[Any], *, judge: Judge | None = None) -> SteeredBy:
    """A policy, or the one that a text names, and its judge.

    ``judge=FOLDER`` and ``calibration=FILE`` are settings of deepprune.  Without ``prefix``, the
    judge is asked after as many tokens as it was trained to read.

    Raises:
        UnknownName: there is no such policy.
        InvalidValue: a setting is unknown or does not fit; a calibration is stale or foreign; there
            are two judges.
        ModelUnusable, ExtraMissing: the judge can't be loaded.
    """
    if not isinstance(policy, str):
        if not isinstance(policy, Policy):
            raise InvalidValue(f"policy: {policy!r} is no Policy; give one, or the name of one")
        return SteeredBy(policy=policy, judge=judge)
    parts = [_single(part) for part in policy.split(WITH)]
    judges = [one for one in (judge, *(part.judge for part in parts)) if one is not None]
    if len(judges) > 1:
        raise InvalidValue(f"judge: {policy!r} has two; give one")
    leader, *riders = (part.policy for part in parts)
    return SteeredBy(
        policy=Combined(leader=leader, riders=tuple(riders)) if riders else leader,
        judge=judges[0] if judges else None,
        seen=frozenset().union(*(part.seen for part in parts)),
    )


def _single(text: str) -> SteeredBy:
    name, colon, rest = text.partition(":")
    if name != DeepPrune.name:
        return SteeredBy(policy=POLICIES.make(text))
    files: dict[str, str] = {}
    others = []
    for pair in rest.split(",") if rest else ():
        key, _, value = pair.partition("=")
        if key not in ("judge", "calibration"):
            others.append(pair)
        elif files.setdefault(key, value) != value or not value:
            raise InvalidValue(f"policy: {key} is empty or given twice; give it once")
    policy = POLICIES.choose(name + colon * bool(others or not files) + ",".join(others))
    made = policy.make(POLICIES.noun)
    assert isinstance(made, DeepPrune)
    if not files:
        return SteeredBy(policy=made)
    if "judge" not in files:
        raise InvalidValue(f"judge: {text!r} has a calibration and no judge; give judge=FOLDER too")
    return _judged(made, dict(policy.values), files)


def _judged(policy: DeepPrune, given: dict[str, Any], files: dict[str, str]) -> SteeredBy:
    from reasoning.judging import calibration as calibrations  # torch only where a judge is named
    from reasoning.judging.judge import LearnedJudge

    judge = LearnedJudge.load(files["judge"])
    seen = frozenset(judge.card.seen)
    if "calibration" in files:
        calibration = calibrations.load(Path(files["calibration"]), judge)
        policy = calibrations.apply(calibration, given)
        seen |= frozenset(calibration.marks)
    elif "prefix" not in given:
        policy = replace(policy, prefix=judge.cut.tokens)
    return SteeredBy(policy=policy, judge=judge, seen=seen)
