"""The language of a model folder."""

from __future__ import annotations

from pathlib import Path

from reasoning.engine.config import ModelConfig
from reasoning.errors import ModelUnusable
from reasoning.language.chat import ChatDialect
from reasoning.language.markup_dialect import MarkupDialect


def load_dialect(folder: Path, config: ModelConfig) -> MarkupDialect | ChatDialect:
    """The language of the model in ``folder``.

    Raises:
        ModelUnusable: its tokenizer is missing or broken.
    """
    if config.markup is None:
        return ChatDialect(folder, config.eos)
    path = folder / "tokenizer.json"
    from tokenizers import Tokenizer

    try:
        return MarkupDialect(Tokenizer.from_file(str(path)), config.markup)
    except Exception as error:  # the library raises a bare Exception
        raise ModelUnusable(f"{path} can't be read ({error}); install the package again") from error
