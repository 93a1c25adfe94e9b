"""Save a trained model as a plain Hugging Face folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save, save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from orchestrator.errors import InvalidValue
from reasoning.engine.identities import PATHS_FILE
from reasoning.language import markup
from reasoning.training.demonstrations import TOKEN_IDS
from reasoning.training.recipe import SHAPES, ModelShape

SPECIAL_IDS = {
    f"{name}_token_id": TOKEN_IDS[token]
    for name, token in (("bos", markup.BOS), ("eos", markup.EOS), ("pad", markup.PAD))
}


def export(checkpoint: Path, folder: Path) -> None:
    """Write ``config.json``, bf16 safetensors, tokenizer and generation config.

    Raises:
        InvalidValue: there is no such checkpoint.
    """
    if not checkpoint.is_file():
        raise InvalidValue(f"folder: {checkpoint} does not exist; give a training run's")
    state = torch.load(checkpoint, weights_only=True)
    shape = SHAPES[state["recipe"]["model"]]
    folder.mkdir(parents=True, exist_ok=True)
    model = state["model"]
    tensors = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in model.items()}
    # In a file of their own, so that any engine loads the folder as a plain Llama.
    identity = tensors.pop("model.path_identity")
    (folder / PATHS_FILE).write_bytes(save({"path_identity": identity}))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    recipe = {**state["recipe"], "steps_run": state["step"], "tokens": state["tokens"]}
    if state["before"] is not None:
        recipe["before"] = state["before"]  # the run that this one started from
    _write(folder / "config.json", _config(shape))
    _write(folder / "recipe.json", recipe)
    parameters = sum(tensor.numel() for tensor in tensors.values())
    (folder / "README.md").write_text(_card(recipe, shape, parameters))
    _write(folder / "generation_config.json", SPECIAL_IDS)
    tokenizer().save(str(folder / "tokenizer.json"))
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": markup.BOS,
            "eos_token": markup.EOS,
            "pad_token": markup.PAD,
            "unk_token": markup.UNKNOWN,
            "model_max_length": shape.context,
            "clean_up_tokenization_spaces": False,
        },
    )


CARD = """\
---
license: apache-2.0
library_name: transformers
tags: [reasoning, parallel-reasoning, countdown, arithmetic]
---

# {name}

A Llama decoder of {parameters:.1f} million parameters ({layers} layers, hidden {hidden}, {heads}
heads, context {context:,}) that does Countdown and multi-step arithmetic on 0 to 999, in one
thread, by spawning and joining threads, or in threads that see what others wrote. It knows
nothing else and speaks no natural language: the package `parallel-reason` writes its prompts,
in the markup of `reasoning/language/markup.py`.

**Data.** Made by exact solvers, never stored: serial Countdown search with backtracking, APR
parents and children (arXiv 2504.15466), paths and summaries (ParaThinker, arXiv 2509.04475);
step-by-step arithmetic, alone, several in one thread, in branches (Multiverse, arXiv 2506.09991)
and by workers in lock-step (Group Think, arXiv 2505.11107; Hogwild!, arXiv 2504.06261), who also
list multiples and find shortest paths. Problems are held out by a fixed hash, one in 32.

**Recipe.** `python -m reasoning.training train {name}`, with the settings of `recipe.json`, one
run after the other: {steps:,} steps, {tokens:.1f} million tokens on two CPU cores, from scratch.

**Measured** on held-out problems by the commands in `benchmarks/`:

{results}**Limits.** Countdown with numbers from 1 to 99 and targets from 10 to 100; searches leave
out intermediates above 999, which about one problem in twenty needs. Arithmetic with
intermediates from 0 to 999 and one to seven operations; graphs of three or four nodes. Beyond
that its output is not to be trusted; the package verifies every answer.
"""

MEASURED = {
    "reason-5m": {
        "Countdown": "countdown",
        "Five numbers": "five",
        "Arithmetic": "arithmetic",
        "Threads that share": "sharing",
    },
    "reason-1m": {"Countdown": "small"},
}


def _total(recipe: dict[str, Any], key: str) -> int:
    """A count over this run and the runs that it started from."""
    before = recipe.get("before")
    return int(recipe[key]) + (_total(before, key) if before else 0)


def _card(recipe: dict[str, Any], shape: ModelShape, parameters: int) -> str:
    name = recipe["model"]
    results = "".join(
        f"{title}:\n\n<!-- results: {block} -->\n<!-- end -->\n\n"
        for title, block in MEASURED[name].items()
    )
    return CARD.format(
        name=name,
        parameters=parameters / 1e6,
        layers=shape.layers,
        hidden=shape.hidden,
        heads=shape.heads,
        context=shape.context,
        steps=_total(recipe, "steps_run"),
        tokens=_total(recipe, "tokens") / 1e6,
        results=results,
    )


def tokenizer() -> Tokenizer:
    """The fast tokenizer of whole numbers, markers and symbols; spaces only separate them."""
    vocabulary = dict(TOKEN_IDS)
    padding = markup.VOCABULARY_SIZE - len(vocabulary)
    vocabulary |= {f"<unused{n}>": len(vocabulary) + n for n in range(padding)}
    result = Tokenizer(models.WordLevel(vocabulary, unk_token=markup.UNKNOWN))
    result.normalizer = normalizers.Replace("−", "-")
    pattern = r"<[/a-z0-9]+>|=>|>>|\d+|\S"
    result.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    result.add_special_tokens(list(markup.SPECIAL))
    result.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    return result


def _config(shape: ModelShape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": shape.rope_theta,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        **SPECIAL_IDS,
        "torch_dtype": "bfloat16",
        "reason_markup": 2,
    }


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
