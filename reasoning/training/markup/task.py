"""What the models of our own markup are taught, and their tokens."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from reasoning.language import markup
from reasoning.training.demonstrations import TOKEN_IDS
from reasoning.training.markup.card import card
from reasoning.training.mixture import stream
from reasoning.training.model import EMBEDDING
from reasoning.training.recipe import SHAPES, ModelShape, TrainingTask

NUMBER_NOISE = 0.3
SPECIAL_IDS = {
    f"{name}_token_id": TOKEN_IDS[token]
    for name, token in (("bos", markup.BOS), ("eos", markup.EOS), ("pad", markup.PAD))
}


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


def write_tokenizer(folder: Path) -> None:
    """Write the tokenizer and its configuration."""
    tokenizer().save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": markup.BOS,
        "eos_token": markup.EOS,
        "pad_token": markup.PAD,
        "unk_token": markup.UNKNOWN,
        "model_max_length": ModelShape.context,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def initialise(embedding: Tensor) -> None:
    """Have the embeddings of numbers begin as waves, with some noise."""
    with torch.no_grad():
        numbers = embedding[: len(markup.NUMBERS)]
        waves = numbers.shape[1] // 2
        numbers *= NUMBER_NOISE
        numbers[:, :waves] += EMBEDDING * number_features(waves)


def number_features(width: int) -> Tensor:
    """Waves of each integer's value and of its logarithm, ``[1000, width]``, of unit scale.

    Addition turns the first and multiplication the second by an angle; models that learn
    arithmetic are known to find such waves by themselves (Nanda et al., arXiv 2301.05217;
    Zhou et al., arXiv 2406.03445), so starting from them saves much of the training.
    """
    n = torch.arange(len(markup.NUMBERS), dtype=torch.float64)
    periods = [2, 5, 10, 20, 50, 100, 3, 4, 8, 25, 200, 500, 1000, 7, 9, 11, 13, 2000, 40, 16]
    count = width // 4
    linear = torch.stack([n * (2 * math.pi / p) for p in (periods * count)[:count]])
    log = torch.log(n + 0.5)
    scales = torch.logspace(math.log10(0.1), math.log10(14.0), count, dtype=torch.float64)
    angles = torch.cat([linear, log * (2 * math.pi / scales[:, None])])
    return (torch.cat([angles.cos(), angles.sin()]) * math.sqrt(2)).T.float()


def adopt(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an exported model to start from.

    A model of the first markup has no path identities, and its embeddings of later markers have
    drifted to where they are never predicted; these are initialised again.
    """
    if "model.path_identity" in weights:
        return weights
    embedding = weights["model.embed_tokens.weight"].float()
    for marker in markup.SHARED:
        embedding[TOKEN_IDS[marker]] = EMBEDDING * torch.randn(embedding.shape[1])
    return weights | {"model.embed_tokens.weight": embedding}


def _task(name: str) -> TrainingTask:
    return TrainingTask(
        shape=SHAPES[name],
        stream=stream,
        pad=TOKEN_IDS[markup.PAD],
        special=SPECIAL_IDS,
        write_tokenizer=write_tokenizer,
        card=card,
        initialise=initialise,
        adopt=adopt,
        config={"reason_markup": 2},
    )


REASON_5M, REASON_1M = _task("reason-5m"), _task("reason-1m")
