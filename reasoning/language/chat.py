"""The language of any chat or completion model: its own template, answers from ``\\boxed{}``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

from reasoning.errors import CapabilityMissing
from reasoning.language.chat_format.tokenizer import ChatTokenizer
from reasoning.language.chat_format.tool_calls import find_calls, names_of
from reasoning.language.dialect import StreamDecoder
from reasoning.language.prompted import (
    SAMPLED,
    PromptedForms,
    followed,
    instructed,
    read,
    transcript,
)
from reasoning.language.vocabulary import vocabulary_of
from reasoning.problems import Problem
from reasoning.problems.answers import FoundAnswer
from reasoning.values.capabilities import Capability
from reasoning.values.context import Context
from reasoning.values.conversation import EMPTY, THINKING, Conversation, ToolCall


class ChatDialect:
    """Any chat or completion model: its own chat template, answers as `read_answer` finds them.

    Attributes:
        conversation: What stands around each question.
        instruction: What is appended to it; see `Dialect.within`.
    """

    capabilities: frozenset[Capability] = frozenset({"words", "shared-threads", "continuing"})
    stop: frozenset[int] = frozenset()
    trained = False
    probe = "\n\nThe final answer is \\boxed{"
    fields: Mapping[str, Any] = {}
    emulated: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()

    def __init__(
        self,
        folder: Path,
        ends: frozenset[int] = frozenset(),
        tokenizer: ChatTokenizer | None = None,
    ) -> None:
        """The language of a model's folder, whose ``tokenizer`` may be loaded already."""
        self._folder = folder
        self._tokenizer = tokenizer or ChatTokenizer.load(folder)
        end = self._tokenizer.end_id
        self.ends = ends if end is None else ends | {end}
        self.conversation = EMPTY
        self.instruction: str | None = None

    def within(self, conversation: Conversation, *, instruction: str | None = None) -> Self:
        if any(isinstance(message.content, tuple) for message in conversation.messages):
            raise CapabilityMissing("messages: this model takes text alone; leave other parts out")
        template = self._tokenizer.template
        if conversation.tools and not template:
            raise CapabilityMissing("tools: this model has no chat template; name another model")
        other = copy(self)
        other.conversation, other.instruction = conversation, instruction
        plain = bool(conversation.messages) and not template
        other.emulated = frozenset({"plain-chat"} if plain else ())
        other.ignored = frozenset(_without_effect(conversation, template or ""))
        return other

    @cached_property
    def vocabulary(self) -> str:
        return vocabulary_of(self._folder)

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)

    def decoder(self) -> StreamDecoder:
        return self._tokenizer.decoder()

    def prompt(self, problem: Problem) -> Context:
        return self.ask(instructed(problem, self.conversation, self.instruction))

    def default_strategy(self, problem: Problem) -> str:
        return SAMPLED

    def forms(self, problem: Problem) -> PromptedForms:
        return PromptedForms(
            problem=problem,
            ask=lambda question: self.ask(followed(question, self.instruction)),
            prompt=lambda: self.prompt(problem),
            say=self._tokenizer.decode,
            turn=self._turn,
            ends=self.ends,
            step_tokens=lambda: self._tokenizer.step_tokens,
        )

    def ask(self, question: str) -> Context:
        messages = self.conversation.asking(question)
        if not self._tokenizer.template:
            text = transcript(messages) if len(messages) > 1 else f"{question}\n"
            literal = self._tokenizer.has_control(text)
            return Context.given(self._tokenizer.encode(text, whole=True, literal=literal))
        hidden: list[str] = []
        hide = partial(self._hide, hidden=hidden)
        said = [hide(message.as_dict()) for message in messages]
        rendered = self._rendered(said, tools=hide(list(self.conversation.tools)))
        return Context.given([*self._encoded(rendered, hidden)])

    def _hide(self, value: Any, *, hidden: list[str]) -> Any:
        """A value whose texts with control tokens are put away into ``hidden``."""
        return _hide(value, hides=self._tokenizer.has_control, hidden=hidden)

    def _rendered(self, messages: Sequence[Any], *, tools: Any = None, **variables: Any) -> str:
        """The messages in the template's words, which knows ``variables`` beside the asker's."""
        talk = self.conversation
        effort = {"reasoning_effort": talk.effort} if talk.effort else {}
        known = {**variables, **effort, **talk.switches}
        return self._tokenizer.render(messages, tools, **known)

    def _encoded(self, rendered: str, hidden: Sequence[str]) -> Iterator[int]:
        """The tokens of a rendered prompt, with what was hidden as mere text."""
        for number, piece in enumerate(_HIDDEN.split(rendered)):
            if number % 2 == 0:
                yield from self._tokenizer.encode(piece)
            else:
                yield from self._tokenizer.encode(hidden[int(piece)], literal=True)

    def _turn(self, text: str, *, cut: bool = False) -> str:
        """What follows a model's ended turn: the user's next one and the model's opening.

        One that was ``cut`` is ended first.
        """
        if not self._tokenizer.template:
            return f"\n\n{text}\n"
        said = "What was said."
        turns = [("user", "?"), ("assistant", said), ("user", text)]
        whole = self._rendered([{"role": role, "content": content} for role, content in turns])
        rest = whole.rpartition(said)[2]
        end = self._tokenizer.end
        before, _, after = rest.partition(end) if end else (rest, "", "")
        if not end or before.strip():  # the template does not write it
            return end * cut + rest
        return end * cut + after

    def answer(self, problem: Problem, text: str, *, finished: bool = True) -> FoundAnswer:
        return read(problem, text, finished=finished)

    def tool_calls(self, text: str) -> tuple[ToolCall, ...]:
        names = names_of(self.conversation.tools)
        return find_calls(text, names) if names else ()


def _without_effect(conversation: Conversation, template: str) -> Iterator[str]:
    """What a template does not ask for."""
    if conversation.thinking is not None and not any(one in template for one in THINKING):
        yield "thinking"
    if conversation.effort is not None and "reasoning_effort" not in template:
        yield "effort"


def _hide(value: Any, *, hides: Any, hidden: list[str]) -> Any:
    """A value whose texts with control tokens are put away, so that no template gives them life."""
    if isinstance(value, str) and (hides(value) or _HIDDEN.search(value)):
        hidden.append(value)
        return f"[[text {len(hidden) - 1} of the asker]]"
    if isinstance(value, Mapping):
        return {name: _hide(one, hides=hides, hidden=hidden) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_hide(one, hides=hides, hidden=hidden) for one in value]
    return value


_HIDDEN = re.compile(r"\[\[text (\d+) of the asker\]\]")
