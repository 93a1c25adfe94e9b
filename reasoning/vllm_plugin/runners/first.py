"""vLLM's first model runner: positions and attention metadata are made by private methods."""

from __future__ import annotations

from typing import Any

from reasoning.vllm_plugin.runners.hooks import StepHooks
from reasoning.vllm_plugin.runners.loading import without_vectors


class FirstRunner:
    """What is added to the runner of the first generation, on CPUs and GPUs."""

    hooks: StepHooks

    def _prepare_inputs(self: Any, scheduler_output: Any, *args: Any, **options: Any) -> Any:
        """Prepare as vLLM does; slots and lengths follow from counts, so only then move rows."""
        prepared = super()._prepare_inputs(scheduler_output, *args, **options)  # type: ignore[misc]
        self.hooks.begin(scheduler_output)
        self.hooks.move(self.positions, self.input_batch.req_id_to_index, self.query_start_loc.np)
        return prepared

    def _build_attention_metadata(self: Any, *args: Any, **options: Any) -> Any:
        built = super()._build_attention_metadata(*args, **options)  # type: ignore[misc]
        batch = self.input_batch.req_id_to_index, self.query_start_loc.np
        self.hooks.attach(built[0], *batch, self.positions)
        self.hooks.begin(None)  # a dummy run, which prepares no inputs, has no plan
        return built

    def load_model(self: Any, *args: Any, **options: Any) -> None:
        with without_vectors(self.vllm_config):
            super().load_model(*args, **options)  # type: ignore[misc]
        self.hooks = StepHooks(self.vllm_config, self.model)
