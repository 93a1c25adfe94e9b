"""Policies by name: ``NAME:key=value``, ``LEADER with RIDER``, and who is asked for advice.

``deepprune:judge=FOLDER`` names a trained judge, ``deepprune:judge=path.py:alike`` a function, and
``weighted:scorer=path.py:score`` a scorer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.errors import InvalidValue
from pruning import Allocation, Combined, DeepPrune, Judge, Policy, Scorer
from pruning.policies import POLICIES as KINDS
from reasoning.registry import KindRegistry

T = TypeVar("T")

WITH = " with "
_SCORER = re.compile(r"(?<=[:,])scorer=([^,]*)(?:,|\Z)")

POLICIES: KindRegistry[Policy[Any]] = KindRegistry(
    "policy", base=Policy, group="parallel_reason.policies", kinds=KINDS
)
"""The policies of `pruning`, a user's own, and those of installed packages."""

ALLOCATIONS: KindRegistry[Allocation] = KindRegistry(
    "allocation",
    base=Allocation,
    group="parallel_reason.allocations",
    kinds={Allocation.name: Allocation},
)
"""How one budget is spread over many questions."""


@dataclass(frozen=True, kw_only=True)
class SteeredBy:
    """A policy, and the judge and the scorer that it asks.

    Attributes:
        scorer: None where the problem's own verifier scores, or nobody does.
        seen: Marks of the questions that the judge or its calibration were made with.
    """

    policy: Policy[Any]
    judge: Judge | None = None
    scorer: Scorer | None = None
    seen: frozenset[str] = frozenset()


def parse_policy(text: str) -> Policy[Any]:
    """The policy that a text names, without its judge; `Policy.label` is the inverse.

    Raises:
        UnknownName, InvalidValue: as `KindRegistry.make`.
    """
    return steered_by(text).policy


def parse_allocation(text: str | Allocation) -> Allocation:
    """An allocation, or the one that a text names, such as ``allocation:mean=6``.

    `Allocation.label` is the inverse.

    Raises:
        UnknownName, InvalidValue: as `KindRegistry.make`.
    """
    return ALLOCATIONS.make(text)


def steered_by(
    policy: str | Policy[Any], *, judge: Judge | None = None, scorer: Scorer | None = None
) -> SteeredBy:
    """A policy, or the one that a text names, with its judge and its scorer.

    ``judge=FOLDER`` (or a function's name, see `load_judge`) and ``calibration=FILE`` are settings
    of deepprune.  Without ``prefix``, a trained judge is asked after as many tokens as it was
    trained to read.  ``scorer=NAME`` is one of each policy that needs scores (see `load_scorer`).

    Raises:
        UnknownName: there is no such policy.
        InvalidValue: a setting is unknown or does not fit; a calibration is stale or foreign; there
            are two judges or scorers.
        ModelUnusable, ExtraMissing: the judge can't be loaded.
    """
    if not isinstance(policy, str):
        if not isinstance(policy, Policy):
            raise InvalidValue(f"policy: {policy!r} is no Policy; give one, or the name of one")
        return SteeredBy(policy=policy, judge=judge, scorer=scorer)
    parts = [_single(part) for part in policy.split(WITH)]
    leader, *riders = (part.policy for part in parts)
    return SteeredBy(
        policy=Combined(leader=leader, riders=tuple(riders)) if riders else leader,
        judge=_one("judge", policy, [judge, *(part.judge for part in parts)]),
        scorer=_one("scorer", policy, [scorer, *(part.scorer for part in parts)]),
        seen=frozenset().union(*(part.seen for part in parts)),
    )


def _one(what: str, policy: str, given: Sequence[T | None]) -> T | None:
    found = [one for one in given if one is not None]
    if len(found) > 1:
        raise InvalidValue(f"{what}: {policy!r} has two; give one")
    return found[0] if found else None


def _single(text: str) -> SteeredBy:
    named = _SCORER.findall(text)
    if not named:
        return _without_scorer(text)
    if len(named) > 1 or not named[0]:
        raise InvalidValue("scorer: empty or given twice; give it once")
    made = _without_scorer(_SCORER.sub("", text).rstrip(",:"))
    if "score" not in made.policy.needs:
        raise InvalidValue(
            f"scorer: policy {made.policy.name!r} asks for no scores; give it to bon or weighted"
        )
    from reasoning.judging.scoring import load_scorer

    return replace(made, scorer=load_scorer(named[0]))


def _without_scorer(text: str) -> SteeredBy:
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
    if ":" in files["judge"] and not Path(files["judge"]).exists():
        if "calibration" in files:
            raise InvalidValue("calibration: it is of a trained judge; give that, or leave it out")
        from reasoning.judging.judges import load_judge

        return SteeredBy(policy=policy, judge=load_judge(files["judge"]))
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
