"""vLLM's second model runner: a model state gives it positions and attention metadata."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reasoning.vllm_plugin.runners.hooks import StepHooks
from reasoning.vllm_plugin.runners.loading import without_vectors


class SegmentState:
    """What is added to the model state of the second runner.

    A model's positions are always in one buffer, which captured graphs read, too.
    """

    hooks: StepHooks
    places: Tensor

    def prepare_inputs(self: Any, input_batch: Any, req_states: Any) -> dict[str, Any]:
        inputs = super().prepare_inputs(input_batch, req_states)  # type: ignore[misc]
        return {**inputs, "positions": self._placed(input_batch)}

    def prepare_dummy_inputs(self: Any, num_reqs: int, num_tokens: int) -> dict[str, Any]:
        inputs = super().prepare_dummy_inputs(num_reqs, num_tokens)  # type: ignore[misc]
        return {**inputs, "positions": self.places[:num_tokens]}

    def prepare_attn(self: Any, input_batch: Any, *args: Any, **options: Any) -> dict[str, Any]:
        built: dict[str, Any] = super().prepare_attn(input_batch, *args, **options)  # type: ignore[misc]
        placed = self._placed(input_batch)
        self.hooks.attach(built, _index(input_batch), input_batch.query_start_loc_np, placed)
        return built

    def get_additional_cg_support(self: Any) -> Any:
        """Let vLLM capture no attention that must run in Python in some steps."""
        from vllm.v1.attention.backend import AttentionCGSupport

        if self.hooks.eager:
            return AttentionCGSupport.NEVER, "segments of other requests"
        return super().get_additional_cg_support()  # type: ignore[misc]

    def _placed(self: Any, input_batch: Any) -> Tensor:
        """The positions of a batch; slots are derived from vLLM's own, which stay."""
        found: Tensor = self.places[: input_batch.num_tokens_after_padding]
        found.copy_(input_batch.positions)
        self.hooks.move(found, _index(input_batch), input_batch.query_start_loc_np)
        return found


def _index(input_batch: Any) -> dict[str, int]:
    return {id: row for row, id in enumerate(input_batch.req_ids)}


class SecondRunner:
    """What is added to the runner of the second generation, on CPUs and GPUs."""

    def load_model(self: Any, *args: Any, **options: Any) -> None:
        with without_vectors(self.vllm_config):
            super().load_model(*args, **options)  # type: ignore[misc]
        stock = type(self.model_state)
        kind = type(f"Segment{stock.__name__}", (SegmentState, stock), {})
        self.model_state = kind(self.vllm_config, self.model, self.encoder_cache, self.device)
        self.model_state.hooks = StepHooks(self.vllm_config, self.model)
        self.model_state.places = torch.zeros(
            self.max_num_tokens, dtype=torch.int64, device=self.device
        )

    def execute_model(self: Any, scheduler_output: Any, *args: Any, **options: Any) -> Any:
        self.model_state.hooks.begin(None if options.get("dummy_run") else scheduler_output)
        return super().execute_model(scheduler_output, *args, **options)  # type: ignore[misc]
