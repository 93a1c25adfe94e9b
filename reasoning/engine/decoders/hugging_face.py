"""Other decoders with rotary positions, through transformers and with our attention.

The step's attention travels in the forward call's keyword arguments, never in a global, so that
two engines can run side by side.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestrator.errors import importing
from reasoning.engine.config import ModelConfig
from reasoning.engine.decoders.attention import Attend
from reasoning.engine.identities import most_paths, read_identities
from reasoning.engine.pool import Pool
from reasoning.engine.step import ForwardStep
from reasoning.errors import ModelUnusable

ATTENTION = "reason"
INTERLEAVED = frozenset(
    {"cohere", "cohere2", "gptj", "codegen", "glm", "glm4", "helium", "ernie4_5"}
)
"""Architectures that rotate neighbouring dimensions together instead of halves."""


class TransformersDecoder:
    """A causal language model of transformers as a `Decoder`.

    ``identities`` are as `read_identities` gives them.
    """

    def __init__(
        self,
        config: ModelConfig,
        model: Any,
        dtype: torch.dtype,
        identities: Tensor | None = None,
    ) -> None:
        self.config = config
        self.dtype = dtype
        self.device = str(model.device)
        self.paths = most_paths(identities)
        self._model = model
        self._frequencies = _frequencies(model)
        scales = [m.attention_scaling for m in model.modules() if hasattr(m, "attention_scaling")]
        self._scale = float(scales[0]) if scales else 1.0
        self._identities = None if identities is None else identities.to(self.device, dtype)

    @classmethod
    def load(
        cls, folder: Path, config: ModelConfig, dtype: torch.dtype, device: str = "cpu"
    ) -> TransformersDecoder:
        """Load any causal language model whose attention is plain softmax over rotary keys.

        Raises:
            ExtraMissing: transformers is not installed.
            ModelUnusable: the folder is broken or the architecture can't be run exactly.
        """
        with importing("local", f"a {config.model_type} model"):
            from transformers import AttentionInterface, AutoModelForCausalLM
            from transformers.utils import logging
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
            ).to(device)
            model.eval()
        except Exception as error:  # transformers raises what it likes here
            raise ModelUnusable(f"{folder} can't be loaded: {error}; give another model") from error
        _refuse_inexact(folder, model.config.get_text_config())
        identities = read_identities(folder, config.layers, config.head_dim)
        if identities is not None and _frequencies(model) is None:
            raise ModelUnusable(
                f"{folder} marks paths, and a {config.model_type} model's keys can't be marked "
                "exactly; give a model whose rotation is plain"
            )
        return cls(config, model, dtype, identities)

    def __call__(self, step: ForwardStep, pool: Pool) -> Tensor:
        device = self._model.device
        out = self._model(
            input_ids=torch.tensor([step.tokens], device=device),
            position_ids=torch.tensor([step.positions], device=device),
            attention_mask=None,
            use_cache=False,
            logits_to_keep=torch.tensor(step.outputs, dtype=torch.long, device=device),
            attend=Attend(step, pool, self.turn),
            marks=self._marks(step),
        )
        logits: Tensor = out.logits[0].float()
        return logits

    def _marks(self, step: ForwardStep) -> tuple[Tensor, Tensor] | None:
        """What is added to rotated keys and to values, ``[layers, 1, T, dim]`` each.

        A rotation is linear: a vector that is rotated to a token's position may be added to a key
        that is rotated already (ParaThinker, arXiv 2509.04475, section 3.4).
        """
        if self._identities is None or self._frequencies is None:
            return None
        values = self._identities[:, step.paths]
        positions = torch.tensor(step.positions, device=self._model.device)
        keys = self.turn(values.transpose(0, 1), positions).transpose(0, 1)
        keys[..., : 2 * len(self._frequencies)] *= self._scale
        return keys[:, None], values[:, None]

    def turn(self, query: Tensor, positions: Tensor) -> Tensor:
        """Rotate queries ``[n, heads, dim]`` further by ``positions [n]``, without YaRN's scale.

        Raises:
            ModelUnusable: the model's rotation is not one of a single fixed table of halves.
        """
        if self._frequencies is None:
            raise ModelUnusable(
                f"a {self.config.model_type} model's positions can't be shifted exactly; "
                "use a strategy without moving segments, such as self-consistency"
            )
        size = 2 * len(self._frequencies)
        angles = positions[:, None, None] * self._frequencies
        cos, sin = angles.cos(), angles.sin()
        low, high = query[..., : size // 2].float(), query[..., size // 2 : size].float()
        turned = torch.cat([low * cos - high * sin, high * cos + low * sin], -1).to(query.dtype)
        return torch.cat([turned, query[..., size:]], -1)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in place of its own attention; ``[1, heads, tokens, dim]`` each."""
    attend: Attend = options["attend"]
    if options["marks"] is not None:
        keys, values = options["marks"]
        key, value = key + keys[module.layer_idx], value + values[module.layer_idx]
    out = attend(
        module.layer_idx,
        *(part[0].transpose(0, 1) for part in (query, key, value)),
        scale=options.get("scaling"),
        window=options.get("sliding_window"),
        sinks=options.get("s_aux"),
    )
    return out.view(1, len(out), query.shape[1], -1), None


def _frequencies(model: Any) -> Tensor | None:
    """The rotary frequencies of all layers, or None where they differ or pair other dimensions."""
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    fixed = rope.get("rope_type", "default") in ("default", "linear", "llama3", "yarn")
    tables = [m.inv_freq for m in model.modules() if hasattr(m, "inv_freq")]
    if len(tables) != 1 or not fixed or config.model_type in INTERLEAVED:
        return None
    found: Tensor = tables[0].float()
    return found


def _refuse_inexact(folder: Path, config: Any) -> None:
    """Refuse by name what our attention does not compute."""
    reasons = {
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
