"""The worker: it runs stock vLLM's model runner, with positions that are not token counts."""

from __future__ import annotations

from typing import Any

from vllm.platforms import current_platform

from reasoning.vllm_plugin.attention.patches import PatchedMethod
from reasoning.vllm_plugin.attention.paths import Marker, patch_cache_updates
from reasoning.vllm_plugin.attention.tables import AttentionTables, patch_attention
from reasoning.vllm_plugin.scheduling.plan import StepPlan
from reasoning.vllm_plugin.support import is_live

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as Stock
else:
    from vllm.v1.worker.gpu_worker import Worker as Stock


class SegmentRunner:
    """What is added to vLLM's model runner (the first generation, on CPU and GPU)."""

    _plan: StepPlan | None = None
    _marker: Marker | None = None
    _patched_forward: PatchedMethod | None = None

    def _prepare_inputs(self: Any, scheduler_output: Any, *args: Any, **options: Any) -> Any:
        """Prepare as vLLM does; slots and lengths follow from counts, so only then move rows."""
        prepared = super()._prepare_inputs(scheduler_output, *args, **options)  # type: ignore[misc]
        plan = scheduler_output.kv_connector_metadata
        assert isinstance(plan, StepPlan), "the plugin's worker needs the plugin's connector"
        starts = self.query_start_loc.np
        for id, offset in plan.offsets.items():
            row = self.input_batch.req_id_to_index[id]
            self.positions[starts[row] : starts[row + 1]] += offset
        self._plan = plan
        return prepared

    def _build_attention_metadata(self: Any, *args: Any, **options: Any) -> Any:
        built = super()._build_attention_metadata(*args, **options)  # type: ignore[misc]
        plan, self._plan = self._plan, None  # a dummy run has none
        attends, paths = (bool(plan.attention), bool(plan.paths)) if plan else (False, False)
        if self._patched_forward is not None:
            self._patched_forward.turn(attends)
        if self._marker is not None:
            self._marker.update.turn(paths)
        if attends or paths:
            batch = self.input_batch.req_id_to_index, self.query_start_loc.np
            tables = AttentionTables.of(plan, *batch) if attends else None
            marks = self._marker(plan, *batch, self.positions) if paths else None
            for metadata in {id(one): one for one in built[0].values()}.values():
                metadata.attention_tables, metadata.marks = tables, marks
        return built

    def load_model(self: Any, *args: Any, **options: Any) -> None:
        super().load_model(*args, **options)  # type: ignore[misc]
        self._marker = patch_cache_updates(self.vllm_config, self.model)
        if is_live(self.vllm_config):
            self._patched_forward = patch_attention(self.vllm_config, self.model)


class SegmentWorker(Stock):
    """vLLM's worker with a `SegmentRunner`."""

    def init_device(self) -> None:
        super().init_device()
        stock = type(self.model_runner)
        self.model_runner.__class__ = type(f"Segment{stock.__name__}", (SegmentRunner, stock), {})
