"""A chat model's tokens and its templates, as its folder has them.

``tokenizer.json`` and the templates are read without transformers, whose classes cost seconds; a
folder without that file is left to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from orchestrator.errors import importing
from reasoning.errors import BackendLost, ModelUnusable
from reasoning.language.chat_format.template import ChatTemplate, chosen
from reasoning.language.steps import MAY_END_RAW

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NAMED = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
"""Tokens that have a name, which templates know."""


class ChatTokenizer:
    """A tokenizer and chat templates.

    Attributes:
        named: The tokens that have a name, such as ``eos_token``, as text.
        templates: The template's source, or several by name; None where there is none.
        end: The token that ends an answer, as text; empty where there is none.
        end_id: The same as a number.
        guarded: Strings that are control tokens though the tokenizer does not call them special.
    """

    def __init__(self, tokenizer: Tokenizer, named: Mapping[str, str], templates: Any) -> None:
        self._tokenizer = tokenizer
        self.named = named
        self.templates = templates
        self.end = named.get("eos_token", "")
        self.end_id = tokenizer.token_to_id(self.end) if self.end else None
        self.guarded: frozenset[str] = frozenset()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The tokenizer of a model's folder.

        Raises:
            ModelUnusable: it is missing or broken.
            ExtraMissing: the packages are not there.
        """
        with importing("local", "this model"):
            import tokenizers  # noqa: F401
        try:
            if (folder / "tokenizer.json").is_file():
                return cls(*_read(folder))
            return cls(*_converted(folder))
        except ModelUnusable:
            raise
        except Exception as error:  # both libraries raise what they like here
            raise ModelUnusable(
                f"the tokenizer in {folder} can't be loaded ({error}); download the model again"
            ) from error

    @property
    def template(self) -> str | None:
        """The template's source, for a conversation without tools."""
        return chosen(self.templates, tools=False)

    def encode(self, text: str, *, whole: bool = False, literal: bool = False) -> list[int]:
        """A text as tokens.

        Args:
            whole: Whether it is a prompt of its own, so that the tokenizer may add its beginning.
            literal: Whether control tokens in it are mere text.
        """
        self._tokenizer.encode_special_tokens = literal
        if literal and self.guarded:
            return [id for part in self._apart(text) for id in self._ids(part)]
        return self._ids(text, whole=whole)

    def _ids(self, text: str, *, whole: bool = False) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=whole).ids
        return ids

    def _apart(self, text: str) -> list[str]:
        """A text in parts, none of which has a guarded string in it."""
        marks = "|".join(f"{re.escape(one[0])}(?={re.escape(one[1:])})" for one in self.guarded)
        ends = [match.end() for match in re.finditer(marks, text)]
        return [text[a:b] for a, b in pairwise([0, *ends, len(text)]) if a < b]

    def id_of(self, text: str) -> int | None:
        """The number of a token; None where there is no such token."""
        found: int | None = self._tokenizer.token_to_id(text)
        return found

    @property
    def added(self) -> list[str]:
        """The tokens that are no pieces of text but were added beside these."""
        return [one.content for one in self._tokenizer.get_added_tokens_decoder().values()]

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens as text, control tokens included."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=False))

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Any = None, **variables: Any
    ) -> str:
        """The messages in the template's words, up to where the model answers."""
        source = chosen(self.templates, tools=bool(tools)) or ""
        template = ChatTemplate(source, self.named)
        return template.render(messages, tools=tools, **variables)

    def has_control(self, text: str) -> bool:
        """Whether a text has control tokens in it."""
        return any(one in text for one in self._control_tokens | self.guarded)

    @cached_property
    def _control_tokens(self) -> frozenset[str]:
        added = self._tokenizer.get_added_tokens_decoder().values()
        return frozenset({*(one.content for one in added if one.special), *self.named.values()})

    @cached_property
    def step_tokens(self) -> frozenset[int]:
        """The tokens after which a step may end: those of line breaks and of sentences' ends."""
        # Decoding the whole vocabulary would take seconds.
        vocabulary = self._tokenizer.get_vocab()
        return frozenset(id for raw, id in vocabulary.items() if MAY_END_RAW.search(raw))

    def decoder(self) -> IncrementalDecoder:
        """What turns one thread's tokens into text."""
        return IncrementalDecoder(self._tokenizer)


Parts = tuple["Tokenizer", dict[str, str], Any]


def _read(folder: Path) -> Parts:
    """What a folder with a ``tokenizer.json`` has."""
    from tokenizers import AddedToken, Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    config = {
        **_json(folder / "special_tokens_map.json"),
        **_json(folder / "tokenizer_config.json"),
    }
    named = {name: found for name in NAMED if (found := _content(config.get(name)))}
    more = config.get("additional_special_tokens") or config.get("extra_special_tokens") or ()
    others = map(_content, more.values() if isinstance(more, dict) else more)
    listed = (config.get("added_tokens_decoder") or {}).values()
    special = [_content(one) for one in listed if isinstance(one, dict) and one.get("special")]
    known = {one.content for one in tokenizer.get_added_tokens_decoder().values()}
    missing = dict.fromkeys((*special, *others, *named.values()))
    tokenizer.add_special_tokens(
        [
            AddedToken(one, special=True, normalized=False)
            for one in missing
            if one and one not in known and tokenizer.token_to_id(one) is not None
        ]
    )
    _bound(tokenizer, config, named)
    return tokenizer, named, _templates(folder, config)


def _json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_bytes()) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _content(token: Any) -> str:
    """The text of a token, which may be written as an object."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else ""


def _bound(tokenizer: Tokenizer, config: Mapping[str, Any], named: Mapping[str, str]) -> None:
    """Have a prompt begin and end as the configuration says, where it does."""
    from tokenizers import processors

    if not isinstance(config.get("add_bos_token"), bool):
        return
    ends = {
        "bos_token": bool(config["add_bos_token"]),
        "eos_token": bool(config.get("add_eos_token")),
    }
    bos, eos = (named.get(name, "") if wanted else "" for name, wanted in ends.items())
    if tokenizer.encode("").ids == [tokenizer.token_to_id(one) for one in (bos, eos) if one]:
        return
    single = " ".join(filter(None, (bos, "$A:0", eos)))
    pairs = [(one, tokenizer.token_to_id(one)) for one in (bos, eos) if one]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=f"{single} $B:1", special_tokens=pairs
    )


def _templates(folder: Path, config: Mapping[str, Any]) -> Any:
    """The templates of a folder: in files of their own, or else in its configuration."""
    file, others = folder / "chat_template.jinja", folder / "additional_chat_templates"
    if file.is_file():
        more = {one.stem: one.read_text() for one in sorted(others.glob("*.jinja"))}
        default = file.read_text()
        return {"default": default, **more} if more else default
    found = config.get("chat_template") or _json(folder / "chat_template.json").get("chat_template")
    if isinstance(found, list):
        return {one["name"]: one["template"] for one in found}
    return found


def _converted(folder: Path) -> Parts:
    """What transformers makes of a folder with another kind of tokenizer."""
    from transformers import AutoTokenizer

    found: Any = AutoTokenizer.from_pretrained(
        str(folder), local_files_only=True, trust_remote_code=False
    )
    tokenizer = getattr(found, "backend_tokenizer", None)
    if tokenizer is None:
        raise ModelUnusable(
            f"the tokenizer in {folder} has no tokenizer.json and can't be turned into one; "
            "name another model"
        )
    return tokenizer, dict(found.special_tokens_map), found.chat_template


HELD = 64
"""So many tokens may wait for the end of a character."""


class IncrementalDecoder:
    """Decodes what came since the last piece of text, together with that piece's own tokens.

    A decoder may strip or join at both ends of what it is given, so that tokens can't be decoded
    one by one.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._decode = tokenizer.decode
        self._ids: list[int] = []
        self._shown = 0
        self._text = ""

    def feed(self, token: int) -> str:
        """See `StreamDecoder.feed`.

        Raises:
            BackendLost: the tokenizer has no such token.
        """
        self._ids.append(token)
        piece = self._decoded()[len(self._text) :]
        waits = len(self._ids) - self._shown < HELD
        if waits and (not piece or piece.endswith("\ufffd")):
            return ""
        del self._ids[: self._shown]
        self._shown, self._text = len(self._ids), self._decoded()
        return piece

    def _decoded(self) -> str:
        try:
            return str(self._decode(self._ids, skip_special_tokens=True))
        except Exception as error:  # tokenizers raise what they like here
            raise BackendLost(
                f"token {self._ids[-1]} can't be decoded ({error}); see whether the tokenizer is "
                "the model's"
            ) from error
