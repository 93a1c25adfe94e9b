"""Native tongues whose strings are plain text, on servers that take and give text.

A loop of messages (PaCoRe) is run in chat, and one that goes on with its own text (APR, SPRINT) by
completions, whose server begins the text with its own token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from reasoning.backends.text_tokens import TextDialect, cut
from reasoning.errors import CapabilityMissing
from reasoning.language.native.catalog import NONE, choose_format, recognise_format
from reasoning.language.native.description import NativeFormat
from reasoning.language.native.dialect import NativeLanguage, fill, listed
from reasoning.problems import Problem
from reasoning.values.context import Context
from reasoning.values.conversation import Conversation


class NativeText(NativeLanguage, TextDialect):
    """The language of a model in text that forks and joins in plain words."""

    def __init__(self, format: NativeFormat, *, in_chat: bool, continues: bool) -> None:
        super().__init__(in_chat=in_chat, continues=continues)
        self.format = format
        self.capabilities = self.capabilities | {"native-format"}

    def within(self, conversation: Conversation, *, instruction: str | None = None) -> Self:
        other = super().within(conversation, instruction=instruction)
        other.ignored |= self.unheard(conversation, instruction)
        return other

    def prompt(self, problem: Problem) -> Context:
        return self.ask(self.words(problem))

    def ask(self, question: str) -> Context:
        parts = self.format.prompt
        words = {"question": question, "instruction": self.told}
        if parts.raw is None:
            return super().ask(fill(parts.user, **words))
        return Context.given(self.begin(fill(parts.raw, bos="", opening=parts.opening, **words)))

    def asked_again(self, problem: Problem, references: Sequence[str]) -> Context:
        words = {"question": problem.question, "references": listed(references)}
        return super().ask(fill(self.format.prompt.instruction, **words))

    def begin(self, text: str) -> list[int]:
        return list(cut(text, "user"))


def text_tongue(asked: str | None, model: str) -> NativeFormat | None:
    """The tongue that was asked for, or which a model has by its name; None for any chat model.

    Raises:
        UnknownName, InvalidValue: there is no such tongue.
    """
    if asked is None:
        return recognise_format((), model)
    return None if asked == NONE else choose_format(asked)


def check_carrier(format: NativeFormat, url: str, mode: str) -> None:
    """Check that a tongue can be spoken to a server that is asked by this ``mode``.

    Raises:
        CapabilityMissing: it can't; saying what it needs.
    """
    if not format.function:
        needs = "is spoken in token ids"
    elif format.prompt.raw is None and mode != "chat":
        needs = "is asked in messages"
    elif format.prompt.raw is not None and mode == "chat":
        needs = "goes on with its own text (--engine mode=text)"
    else:
        return
    raise CapabilityMissing(
        f"dialect: {format.name} {needs}, and {url} is asked by {mode}; give --engine "
        "tokenizer=PATH, and a server that takes token ids, or --dialect none to ask it like any "
        "chat model"
    )
