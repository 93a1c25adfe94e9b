"""Which stored tokens the requests of a step look at, from the segments that they name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reasoning.vllm_plugin.scheduling.plan import Look, Part, Plan
from reasoning.vllm_plugin.scheduling.segments import Active, Extent, Segments


def plan_looks(
    plan: Plan, segments: Segments, active: Sequence[Active], scheduled: Mapping[str, int]
) -> None:
    """Add to a plan what each of the requests with views sees in a step.

    ``scheduled`` are the tokens that each request of the step is fed.
    """
    for one in active:
        if not one.note.looking:
            continue
        own = f"@{one.id}"
        plan.tables[own] = list(segments._manager.get_block_ids(one.id)[0])
        used = int(one.request.num_computed_tokens)
        plan.looks[one.id] = Look(
            parts=_parts(plan, segments, one, scheduled), table=own, used=used
        )


def _parts(plan: Plan, segments: Segments, one: Active, scheduled: Mapping[str, int]) -> list[Part]:
    view = one.view
    assert view is not None
    found = [segments.extents[sight.name] for sight in view.sights]
    limits = []
    for sight, extent in zip(view.sights, found, strict=True):
        fed = 0 if sight.lag or extent.writer is None else scheduled.get(extent.writer.id, 0)
        limit = extent.after(fed)
        limits.append(limit if sight.upto is None else min(limit, sight.upto))
    turns = view.turns(limits, [extent.home for extent in found])
    parts = []
    for extent, limit, turn in zip(found, limits, turns, strict=True):
        if limit:
            parts.append(Part(_table(plan, segments, extent), extent.first, limit, turn))
    return parts


def _table(plan: Plan, segments: Segments, extent: Extent) -> str:
    key = extent.name if extent.writer is None else f"@{extent.writer.id}"
    if key not in plan.tables:
        plan.tables[key] = segments.table(extent)
    return key
