"""The worker: it runs stock vLLM's model runner, with positions that are not token counts."""

from __future__ import annotations

from typing import Any

from vllm.platforms import current_platform

from reasoning.vllm_plugin.checks.self_test import try_runner
from reasoning.vllm_plugin.checks.settings import refuse_runner
from reasoning.vllm_plugin.runners.first import FirstRunner
from reasoning.vllm_plugin.runners.second import SecondRunner

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as Stock
else:
    from vllm.v1.worker.gpu_worker import Worker as Stock


class SegmentWorker(Stock):
    """vLLM's worker with what the plugin adds to the model runner that it has chosen."""

    def init_device(self) -> None:
        super().init_device()
        stock = type(self.model_runner)
        added = {1: FirstRunner, 2: SecondRunner}[refuse_runner(stock)]
        self.model_runner.__class__ = type(f"Segment{stock.__name__}", (added, stock), {})

    def compile_or_warm_up_model(self) -> Any:
        took = super().compile_or_warm_up_model()
        try_runner(self.model_runner)
        return took
