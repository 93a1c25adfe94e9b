"""How a model is spoken to: prompts for problems, and answers out of what it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from reasoning.language.forms import Forms
from reasoning.problems import Problem
from reasoning.problems.answers import FoundAnswer
from reasoning.values.capabilities import Capability
from reasoning.values.context import Context
from reasoning.values.conversation import Conversation, ToolCall


class StreamDecoder(Protocol):
    """Turns a thread's tokens into text, one by one."""

    def feed(self, token: int) -> str:
        """The text that this token adds; empty while a character is incomplete."""
        ...


class Dialect(Protocol):
    """One model's language."""

    capabilities: frozenset[Capability]
    trained: bool
    """Whether the model was trained on the domains of `reasoning.problems`."""
    stop: frozenset[int]
    """Tokens that stop a thread, beside the model's own end tokens."""
    ends: frozenset[int]
    """The model's own end tokens, as far as the dialect knows them."""
    probe: str
    """What makes a thread give, at any point, the answer that it has by then."""
    emulated: frozenset[str]
    """What is written in another form than the model's own, by name."""
    ignored: frozenset[str]
    """What was asked for and has no effect on this model, by name."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """What a server is told beside the prompt: tools, and variables of its chat template."""
        ...

    def within(self, conversation: Conversation, *, instruction: str | None = None) -> Dialect:
        """The same language, whose prompts all stand in this conversation.

        Args:
            instruction: What is appended to the question; by default how to give the answer,
                unless the question is open or has turns before it, and ``""`` is nothing.

        Raises:
            CapabilityMissing: the model can't be given a part of it; naming the part.
        """
        ...

    def tool_calls(self, text: str) -> tuple[ToolCall, ...]:
        """The calls that a thread's text asks for, where the conversation has tools."""
        ...

    @property
    def vocabulary(self) -> str:
        """A fingerprint of its tokens: where two are equal, so is every token; empty is unknown."""
        ...

    def encode(self, text: str) -> list[int]:
        """A text as tokens, without any that the tokenizer would add around it."""
        ...

    def decoder(self) -> StreamDecoder:
        """What turns one thread's tokens into text."""
        ...

    def prompt(self, problem: Problem) -> Context:
        """The context in which one thread solves the problem alone.

        Raises:
            ProblemRefused: the model can't do problems of this kind.
        """
        ...

    def ask(self, question: str) -> Context:
        """The context in which a thread answers a question in words, as they stand.

        Raises:
            ProblemRefused: the model understands no words.
        """
        ...

    def answer(self, problem: Problem, text: str, *, finished: bool = True) -> FoundAnswer:
        """The answer in what a thread itself wrote; a text that was cut is not ``finished``."""
        ...

    def default_strategy(self, problem: Problem) -> str:
        """The strategy that suits the model best for this problem, perhaps with settings."""
        ...

    def forms(self, problem: Problem) -> Forms:
        """The forms for threads on this problem that share what they wrote."""
        ...
