"""What a step's plan changes in a model runner, whichever generation it is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orchestrator.errors import InvalidValue
from reasoning.vllm_plugin.attention.patches import PatchedMethod
from reasoning.vllm_plugin.attention.paths import Marker, patch_cache_updates
from reasoning.vllm_plugin.attention.tables import AttentionTables, patch_attention
from reasoning.vllm_plugin.checks.settings import is_live
from reasoning.vllm_plugin.scheduling.plan import StepPlan


class StepHooks:
    """Moves positions, and lets layers look at other segments and mark paths, as a plan says.

    What was done is noted in the plan, from where the connector reads it after the step.
    """

    def __init__(self, config: Any, model: torch.nn.Module) -> None:
        self._marker: Marker | None = patch_cache_updates(config, model)
        self._forward: PatchedMethod | None = (
            patch_attention(config, model) if is_live(config) else None
        )
        self._plan: StepPlan | None = None

    @property
    def eager(self) -> bool:
        """Whether some steps need attention that no CUDA graph has captured."""
        return self._forward is not None or self._marker is not None

    def begin(self, step: Any) -> None:
        """Begin a step of vLLM's scheduler, or one that has no requests (None).

        Raises:
            InvalidValue: copies would come behind the step that needs them.
        """
        plan = None if step is None else step.kv_connector_metadata
        self._plan = plan if isinstance(plan, StepPlan) else None
        if self._plan is not None and self._plan.copies and not step.has_sync_kv_loads:
            raise InvalidValue(
                "vllm plugin: vLLM would copy segments after the step that needs them"
            )

    def move(self, positions: Tensor, index: Mapping[str, int], starts: Sequence[int]) -> None:
        """Add each request's offset to its tokens' positions, in place."""
        plan = self._plan
        if plan is None or not plan.offsets:
            return
        offsets = np.zeros(starts[len(index)], dtype=np.int64)
        for id, offset in plan.offsets.items():
            row = index[id]
            offsets[starts[row] : starts[row + 1]] = offset
            plan.moved.add(id)
        positions[: len(offsets)] += torch.from_numpy(offsets).to(positions, non_blocking=True)

    def attach(
        self,
        metadata: Mapping[str, Any],
        index: Mapping[str, int],
        starts: Sequence[int],
        positions: Tensor,
    ) -> None:
        """Give the layers' metadata what the plan's requests look at, and which are marked."""
        plan = self._plan
        attends, paths = (bool(plan.attention), bool(plan.paths)) if plan else (False, False)
        if self._forward is not None:
            self._forward.turn(attends)
        if self._marker is not None:
            self._marker.update.turn(paths)
        if plan is None or not (attends or paths):
            return
        tables = marks = None
        if attends and self._forward is not None:
            tables = AttentionTables.of(plan, index, starts)
            plan.looking |= plan.attention.keys()
            plan.patched.append(self._forward)
        if paths and self._marker is not None:
            marks = self._marker(plan, index, starts, positions)
            plan.marked |= plan.paths.keys()
            plan.patched.append(self._marker.update)
        for one in {id(one): one for one in metadata.values()}.values():
            one.attention_tables, one.marks = tables, marks
