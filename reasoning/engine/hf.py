"""Other decoders with rotary positions, through transformers and with our attention.

The step's attention travels in the forward call's keyword arguments, never in a global, so that
two engines can run side by side.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestrator.errors import ExtraMissing, ModelUnusable
from reasoning.engine.attention import Attend
from reasoning.engine.config import ModelConfig

ATTENTION = "reason"


class TransformersDecoder:
    """A causal language model of transformers as a `Decoder`."""

    def __init__(self, config: ModelConfig, model: Any, dtype: torch.dtype) -> None:
        self.config = config
        self.dtype = dtype
        self._model = model

    @classmethod
    def load(cls, folder: Path, config: ModelConfig, dtype: torch.dtype) -> TransformersDecoder:
        """Load any causal language model whose attention is plain softmax over rotary keys.

        Raises:
            ExtraMissing: transformers is not installed.
            ModelUnusable: the folder is broken or the architecture can't be run exactly.
        """
        try:
            from transformers import AttentionInterface, AutoModelForCausalLM
            from transformers.utils import logging
        except ImportError as error:
            raise ExtraMissing(
                f"a {config.model_type} model needs transformers; "
                "pip install 'parallel-reason[local]'"
            ) from error
        AttentionInterface.register(ATTENTION, _attention)
        logging.disable_progress_bar()
        try:
            model = AutoModelForCausalLM.from_pretrained(
                str(folder),
                dtype=dtype,
                attn_implementation=ATTENTION,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            ).eval()
        except Exception as error:  # transformers raises what it likes here
            raise ModelUnusable(
                f"{folder} can't be loaded as a causal language model ({error}); "
                "give another model folder"
            ) from error
        _refuse_inexact(folder, model.config.get_text_config())
        return cls(config, model, dtype)

    def __call__(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        out = self._model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=None,
            use_cache=False,
            logits_to_keep=1,
            attend=attend,
        )
        logits: Tensor = out.logits[:, -1].float()
        return logits


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    attend: Attend | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in place of its own attention; rows first, heads second."""
    assert attend is not None
    if scaling is not None:  # our kernel divides by the root of the head's size
        query = query * (scaling * query.shape[-1] ** 0.5)
    keyed = torch.cat([key, value], 1).transpose(1, 2)
    out = attend(module.layer_idx, query.transpose(1, 2), keyed)
    return out.view(*out.shape[:2], query.shape[1], -1), None


def _refuse_inexact(folder: Path, config: Any) -> None:
    """Refuse by name what our attention does not compute."""
    reasons = {
        "sliding-window attention": "sliding_attention"
        in (getattr(config, "layer_types", None) or ())
        or (
            getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
        ),
        "chunked or linear attention": {"chunked_attention", "linear_attention"}
        & set(getattr(config, "layer_types", None) or ()),
        "soft-capped attention": getattr(config, "attn_logit_softcapping", None),
        "attention sinks": config.model_type == "gpt_oss",
        "latent attention": getattr(config, "kv_lora_rank", None),
        "positions that are not rotary": not getattr(config, "rope_parameters", None),
    }
    for reason, found in reasons.items():
        if found:
            raise ModelUnusable(
                f"{folder} is a {config.model_type} model with {reason}, which the embedded engine "
                "does not run exactly; give a model with plain rotary attention"
            )
