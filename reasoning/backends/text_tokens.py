"""The language of a model whose tokenizer is unknown: runs of text stand for tokens.

Given text is cut into runs of four characters, about a token each; each run of an answer is what
was received at once.  A server's own counts stand in the usage.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Literal, NamedTuple

from reasoning.language.prompted import PromptedForms, instructed, read
from reasoning.problems import Problem
from reasoning.problems.answers import FoundAnswer, boxed
from reasoning.values.capabilities import Capability
from reasoning.values.context import Context

GIVEN_CHARACTERS = 4
"""How much given text makes a token."""
TURN = "\x1e"
"""Stands around the user's turns in text that is given to a thread."""
Role = Literal["user", "assistant"]


class _RoleText(NamedTuple):
    text: str
    role: Role


class TextTokens:
    """Numbers runs of text, by whom they were said: the same run always has the same number.

    Attributes:
        end: Ends an answer.
        filler: Stands for a token of which no text was sent.
    """

    def __init__(self) -> None:
        self._all: list[_RoleText] = []
        self._ids: dict[_RoleText, int] = {}
        self.end = self.id("", "user")
        self.filler = self.id("")

    def id(self, text: str, role: Role = "assistant") -> int:
        """The token of a text."""
        said = _RoleText(text, role)
        found = self._ids.get(said)
        if found is None:
            found = self._ids[said] = len(self._all)
            self._all.append(said)
        return found

    def cut(self, text: str, role: Role) -> list[int]:
        """Given text as tokens."""
        size = GIVEN_CHARACTERS
        return [self.id(text[i : i + size], role) for i in range(0, len(text), size)]

    def text(self, ids: Sequence[int]) -> str:
        """The text of tokens, whoever said it."""
        return "".join(self._all[id].text for id in ids)

    def messages(self, ids: Sequence[int]) -> list[dict[str, str]]:
        """Tokens as chat messages: one for each run of the same role."""
        said = (self._all[id] for id in ids if self._all[id].text)
        runs = groupby(said, lambda one: one.role)
        return [{"role": role, "content": "".join(s.text for s in run)} for role, run in runs]


class TextDialect:
    """Speaks to a model in text; answers are read by `read_answer`."""

    capabilities: frozenset[Capability] = frozenset({"shared-threads"})
    stop: frozenset[int] = frozenset()
    trained = False
    probe = "\n\nThe final answer is \\boxed{"

    def __init__(self, text_tokens: TextTokens) -> None:
        self.text_tokens = text_tokens
        self.ends = frozenset({text_tokens.end})

    def encode(self, text: str) -> list[int]:
        roles: tuple[Role, ...] = ("assistant", "user")
        parts = text.split(TURN)
        return [
            id for n, part in enumerate(parts) for id in self.text_tokens.cut(part, roles[n % 2])
        ]

    def decoder(self) -> TextDecoder:
        return TextDecoder(self.text_tokens)

    def prompt(self, problem: Problem) -> Context:
        return self.ask(instructed(problem))

    def default_strategy(self, problem: Problem) -> str:
        return "single"

    def forms(self, problem: Problem) -> PromptedForms:
        return PromptedForms(
            problem=problem,
            ask=self.ask,
            turn=lambda text, *, cut=False: f"{TURN}\n\n{text}\n{TURN}",
            ends=self.ends,
            paragraphs=frozenset,
            boxed=boxed,
        )

    def ask(self, question: str) -> Context:
        return Context.given(self.text_tokens.cut(f"{question}\n", "user"))

    def answer(self, problem: Problem, text: str, *, finished: bool = True) -> FoundAnswer:
        return read(problem, text, finished=finished)


class TextDecoder:
    """TextTokens are text already."""

    def __init__(self, text_tokens: TextTokens) -> None:
        self._text_tokens = text_tokens

    def feed(self, token: int) -> str:
        return self._text_tokens.text([token])
