"""Policies with a judge, by name: ``deepprune:judge=FOLDER,calibration=FILE``.

`pruning.policies.names` reads no files; what it can't take is taken out here first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import InvalidValue
from pruning import Combined, DeepPrune, Policy, parse_policy
from pruning.policies.names import WITH

if TYPE_CHECKING:
    from reasoning.judging.judge import LearnedJudge


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A policy and the judge that it asks.

    Attributes:
        seen: Marks of the questions that the judge or its calibration were made with.
    """

    policy: Policy[Any]
    judge: LearnedJudge | None = None
    seen: frozenset[str] = frozenset()


def choose(text: str) -> Chosen:
    """The policy that ``text`` names; ``judge`` and ``calibration`` are parameters of deepprune.

    Without ``prefix``, the judge is asked after as many tokens as it was trained to read.

    Raises:
        PolicyError: as `pruning.parse_policy`.
        InvalidValue: a calibration that is stale or foreign; a judge where none is asked.
        ModelUnusable, ExtraMissing: the judge can't be loaded.
    """
    parts = [_single(part) for part in text.split(WITH)]
    judges = {c.judge.fingerprint: c.judge for c in parts if c.judge is not None}
    if len(judges) > 1:
        raise InvalidValue(f"judge: {text!r} has two; give one")
    leader, *riders = (part.policy for part in parts)
    return Chosen(
        policy=Combined(leader=leader, riders=tuple(riders)) if riders else leader,
        judge=next(iter(judges.values()), None),
        seen=frozenset().union(*(part.seen for part in parts)),
    )


def _single(text: str) -> Chosen:
    name, _, rest = text.partition(":")
    own: dict[str, str] = {}
    left = []
    for part in rest.split(",") if rest else ():
        key, _, value = part.partition("=")
        if key in ("judge", "calibration") and key not in own:
            own[key] = value
        else:
            left.append(part)
    if not own:
        return Chosen(policy=parse_policy(text))
    if "judge" not in own:
        raise InvalidValue(f"judge: {text!r} has a calibration and no judge; give judge=FOLDER too")
    policy = parse_policy(":".join([name, ",".join(left)]) if left else name)
    if not isinstance(policy, DeepPrune):
        raise InvalidValue(f"judge: policy {name!r} asks none; give deepprune")
    given = {key: getattr(policy, key) for key in (part.partition("=")[0] for part in left)}
    return _judged(policy, given, own)


def _judged(policy: DeepPrune, given: dict[str, Any], own: dict[str, str]) -> Chosen:
    from reasoning.judging import calibration as calibrations  # torch only where a judge is named
    from reasoning.judging.judge import LearnedJudge

    judge = LearnedJudge.load(own["judge"])
    seen = frozenset(judge.card.seen)
    if "calibration" in own:
        calibration = calibrations.load(Path(own["calibration"]), judge)
        policy = calibrations.apply(calibration, given)
        seen |= frozenset(calibration.marks)
    elif "prefix" not in given:
        policy = replace(policy, prefix=judge.cut.tokens)
    return Chosen(policy=policy, judge=judge, seen=seen)
