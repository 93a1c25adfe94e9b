"""Which stored tokens the requests of a step attend to, from the segments that they name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reasoning.vllm_plugin.scheduling.plan import RequestAttention, StepPlan, VisibleRun
from reasoning.vllm_plugin.scheduling.segments import ActiveRequest, SegmentExtent, SegmentTable


def plan_attention(
    plan: StepPlan,
    segments: SegmentTable,
    active: Sequence[ActiveRequest],
    scheduled: Mapping[str, int],
) -> None:
    """Add to a plan what each of the requests with views sees in a step.

    ``scheduled`` are the tokens that each request of the step is fed.
    """
    for one in active:
        if not one.note.attends:
            continue
        own = f"@{one.id}"
        plan.tables[own] = segments.request_table(one.id)
        used = int(one.request.num_computed_tokens)
        plan.attention[one.id] = RequestAttention(
            parts=_parts(plan, segments, one, scheduled), table=own, used=used
        )


def _parts(
    plan: StepPlan, segments: SegmentTable, one: ActiveRequest, scheduled: Mapping[str, int]
) -> list[VisibleRun]:
    view = one.view
    assert view is not None
    found = [segments.extents[seen.name] for seen in view.segments]
    limits = []
    for seen, extent in zip(view.segments, found, strict=True):
        fed = 0 if seen.lag or extent.writer is None else scheduled.get(extent.writer.id, 0)
        limit = extent.after(fed)
        limits.append(limit if seen.upto is None else min(limit, seen.upto))
    turns = view.turns(limits, [extent.home for extent in found])
    parts = []
    for extent, limit, turn in zip(found, limits, turns, strict=True):
        if limit:
            parts.append(VisibleRun(_table(plan, segments, extent), extent.first, limit, turn))
    return parts


def _table(plan: StepPlan, segments: SegmentTable, extent: SegmentExtent) -> str:
    key = extent.name if extent.writer is None else f"@{extent.writer.id}"
    if key not in plan.tables:
        plan.tables[key] = segments.table(extent)
    return key
