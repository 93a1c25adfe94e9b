"""A chat model's tokens and its template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from orchestrator.errors import importing
from reasoning.errors import BackendLost, ModelUnusable
from reasoning.language.steps import MAY_END_RAW


class ChatTokenizer:
    """A tokenizer and a chat template, as a model's folder has them.

    Attributes:
        template: The template's source; None where the model has none.
        end: The token that ends an answer, as text; empty where there is none.
        end_id: The same as a number.
    """

    def __init__(self, folder: Path) -> None:
        with importing("local", "this model"):
            from transformers import AutoTokenizer
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # transformers raises what it likes here
            raise ModelUnusable(
                f"the tokenizer in {folder} can't be loaded ({error}); download the model again"
            ) from error
        found = self._tokenizer.chat_template
        self.template: str | None = " ".join(found.values()) if isinstance(found, dict) else found
        self.end: str = self._tokenizer.eos_token or ""
        self.end_id: int | None = self._tokenizer.eos_token_id

    def encode(self, text: str, *, whole: bool = False, literal: bool = False) -> list[int]:
        """A text as tokens.

        Args:
            whole: Whether it is a prompt of its own, so that the tokenizer may add its beginning.
            literal: Whether control tokens in it are mere text.
        """
        more = {"split_special_tokens": True} if literal else {}
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=whole, **more)
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens as text, control tokens included."""
        return str(self._tokenizer.decode(tokens))

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Any = None, **variables: Any
    ) -> str:
        """The messages in the template's words, up to where the model answers."""
        rendered: str = self._tokenizer.apply_chat_template(
            messages, tools=tools or None, tokenize=False, add_generation_prompt=True, **variables
        )
        return rendered

    def has_control(self, text: str) -> bool:
        """Whether a text has control tokens in it."""
        return any(one in text for one in self._control_tokens)

    @cached_property
    def _control_tokens(self) -> frozenset[str]:
        added = self._tokenizer.added_tokens_decoder.values()
        named = (token.content for token in added if token.special)
        return frozenset({*named, *self._tokenizer.all_special_tokens})

    @cached_property
    def step_tokens(self) -> frozenset[int]:
        """The tokens after which a step may end: those of line breaks and of sentences' ends."""
        # Decoding the whole vocabulary would take seconds.
        return frozenset(
            id for raw, id in self._tokenizer.get_vocab().items() if MAY_END_RAW.search(raw)
        )

    def decoder(self) -> IncrementalDecoder:
        """What turns one thread's tokens into text."""
        return IncrementalDecoder(self._tokenizer)


HELD = 64
"""So many tokens may wait for the end of a character."""


class IncrementalDecoder:
    """Decodes what came since the last piece of text, together with that piece's own tokens.

    A decoder may strip or join at both ends of what it is given, so that tokens can't be decoded
    one by one.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._decode = (getattr(tokenizer, "backend_tokenizer", None) or tokenizer).decode
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
