"""The language of the shipped models, in one of its versions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from orchestrator.errors import ReasonError
from reasoning.errors import CapabilityMissing, ProblemRefused
from reasoning.language import markup
from reasoning.language.dialect import StreamDecoder
from reasoning.language.trained import TAUGHT, TrainedForms
from reasoning.language.vocabulary import fingerprint_of
from reasoning.problems import FreeForm, Problem, recognise
from reasoning.problems.answers import FoundAnswer
from reasoning.values.capabilities import Capability
from reasoning.values.context import Context
from reasoning.values.conversation import SYSTEM, Conversation, ToolCall

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class MarkupDialect:
    """The language of the shipped models (`reasoning.language.markup`), in one of its versions."""

    probe = markup.ANSWER
    trained = True
    fields: Mapping[str, Any] = {}
    emulated: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()

    def __init__(self, tokenizer: Tokenizer, version: int = 2) -> None:
        self._tokenizer = tokenizer
        self.version = version
        known: list[Capability] = ["continuing", "spawn-join", "shared-threads"]
        self.capabilities: frozenset[Capability] = frozenset(known[: version + 1])
        self.ends = frozenset(self.encode(markup.EOS))
        self.stop = frozenset(self.encode(markup.JOIN))

    def within(self, conversation: Conversation, *, instruction: str | None = None) -> Self:
        """Itself, where there is nothing to say; else it refuses, for it knows no such words."""
        asked = {
            "system": any(one.role in SYSTEM for one in conversation.messages),
            "conversation": conversation.goes_on,
            "tools": bool(conversation.tools),
            "instruction": bool(instruction),
            "thinking": conversation.thinking is not None,
            "effort": conversation.effort is not None,
            "chat-template-kwargs": bool(conversation.template),
        }
        if given := ", ".join(name for name, wanted in asked.items() if wanted):
            raise CapabilityMissing(
                f"{given}: the shipped model knows its own problems alone; leave it out, or name "
                "a chat model with --model or --base-url"
            )
        return self

    def tool_calls(self, text: str) -> tuple[ToolCall, ...]:
        return ()

    @cached_property
    def vocabulary(self) -> str:
        return fingerprint_of(self._tokenizer.to_str())

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text).ids

    def decoder(self) -> StreamDecoder:
        return _SpacedDecoder(self._tokenizer)

    def prompt(self, problem: Problem) -> Context:
        return self.forms(problem).prompt

    def ask(self, question: str) -> Context:
        raise ProblemRefused("the shipped model knows its own markup only; name a chat model")

    def default_strategy(self, problem: Problem) -> str:
        return self.forms(problem).strategy

    def forms(self, problem: Problem) -> TrainedForms:
        """The forms of the problem's domain.

        Raises:
            ProblemRefused: this version of the markup has no such domain.
        """
        kind = TAUGHT.get(problem.domain)
        if kind is None or kind.version > self.version:
            raise untaught(problem.domain, self.version)
        return kind(problem=problem, encode=self.encode)

    def answer(self, problem: Problem, text: str, *, finished: bool = True) -> FoundAnswer:
        found = self.forms(problem).answer(text)
        return FoundAnswer(
            answer=found, source="none" if found is None else "cue", text=text, complete=finished
        )


def untaught(domain: str, version: int = 2, *, question: str = "") -> ProblemRefused:
    """The refusal of a domain that a version of the markup does not have.

    Where the ``question`` nearly states a problem that it does have, it says how that is stated.
    """
    known = [name for name, one in TAUGHT.items() if one.version <= version]
    hint = _restated(question)
    if hint is not None and not _stated(hint):
        hint = None
    meant = f"if you mean such a one, state it as {hint!r}, or else " if hint else ""
    return ProblemRefused(
        f"the shipped model does {', '.join(known)}, no {domain} problem; {meant}"
        "name a model with --model PATH, or a server with --base-url URL"
    )


def _stated(text: str) -> bool:
    """Whether a text states a problem that can be posed."""
    try:
        return not isinstance(recognise(text), FreeForm)
    except ReasonError:
        return False


def _restated(question: str) -> str | None:
    """How a problem is stated that a question nearly states."""
    words = " ".join(question.split()).lower()
    numbers = re.findall(r"\d{1,3}", words)
    goal = re.search(r"\b(?:make|get|reach|obtain|equal|target\D*)s?\D{0,20}?(\d{1,3})\b", words)
    if goal and 3 <= len(numbers) - 1 <= 5:
        used = list(numbers)
        used.remove(goal[1])
        return f"Use {', '.join(used[:-1])} and {used[-1]} to make {goal[1]}"
    expression = re.search(r"\(*\d+(?:\s*[-+*/×÷]\s*\(*\s*\d+\s*\)*)+", words)
    if expression:
        return f"Compute {expression[0].strip()}"
    listed = re.search(r"\b(\d+)\b[^\d]*\bmultiples of (\d+)", words)
    if listed and len(numbers) == 2:
        return f"List {listed[1]} different multiples of {listed[2]}"
    if re.search(r"shortest|distances?\b", words):
        return "Find the shortest distances between all nodes of the graph with edges 0 5 9; 4 0 2"
    return None


class _SpacedDecoder:
    """Our tokens are words; the separating space belongs to the later one."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._space = ""

    def feed(self, token: int) -> str:
        piece = self._space + (self._tokenizer.id_to_token(token) or "")
        self._space = " "
        return piece
