"""The language of a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from orchestrator.errors import InvalidValue
from reasoning.engine.config import ModelConfig
from reasoning.errors import ModelUnusable
from reasoning.language.chat import ChatDialect
from reasoning.language.chat_format.tokenizer import ChatTokenizer
from reasoning.language.dialect import Dialect
from reasoning.language.markup_dialect import MarkupDialect


def load_dialect(
    folder: Path, config: ModelConfig, *, native: str | None = None
) -> MarkupDialect | ChatDialect:
    """The language of the model in ``folder``.

    ``native`` names the tongue in which it forks and joins, as `choose_format` takes it; ``none``
    is a chat model's, and by default it is recognised.

    Raises:
        ModelUnusable: its tokenizer is missing or broken, or not that of its tongue.
        UnknownName, InvalidValue: there is no such tongue.
    """
    if config.markup is None:
        tokenizer = ChatTokenizer.load(folder)
        spoken = _native(folder, config, native, tokenizer)
        return spoken or ChatDialect(folder, config.eos, tokenizer)
    if native is not None:
        raise InvalidValue("dialect: the shipped model has a markup of its own; leave it out")
    path = folder / "tokenizer.json"
    from tokenizers import Tokenizer

    try:
        return MarkupDialect(Tokenizer.from_file(str(path)), config.markup)
    except Exception as error:  # the library raises a bare Exception
        raise ModelUnusable(f"{path} can't be read ({error}); install the package again") from error


def authors_sampling(dialect: Dialect) -> Mapping[str, float]:
    """How the authors of a native tongue draw tokens; of other languages nothing is known."""
    from reasoning.language.native.dialect import NativeLanguage

    return dialect.format.sampling if isinstance(dialect, NativeLanguage) else {}


def _native(
    folder: Path, config: ModelConfig, asked: str | None, tokenizer: ChatTokenizer
) -> ChatDialect | None:
    """The language of a model that has a tongue of its own; None where it has none."""
    from reasoning.language.native import catalog
    from reasoning.language.native.dialect import NativeDialect

    if asked == catalog.NONE:
        return None
    if asked is not None:
        format, how = catalog.choose_format(asked), "as asked"
    else:
        cached = folder.parent.name == "snapshots"  # of Hugging Face's cache
        name = folder.parent.parent.name if cached else folder.name
        found = catalog.recognise_format(tokenizer.added, name)
        if found is None:
            return None
        format = found
        tokens = f"by its {len(format.controls)} control tokens"
        how = tokens if format.controls else "by its name"
    dialect = NativeDialect(folder, config.eos, format, layers=config.layers, tokenizer=tokenizer)
    dialect.chosen = how
    return dialect
