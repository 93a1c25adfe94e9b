"""The language of a model whose tokenizer is unknown: runs of text stand for tokens.

Given text is cut into runs of four characters, about a token each; each run of an answer is what
was received at once.  A server's own counts stand in the usage.  A token is its text, written as a
number, so that equal texts are equal tokens everywhere and nothing has to remember them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal

from reasoning.language.prompted import PromptedForms, instructed, read
from reasoning.problems import Problem
from reasoning.problems.answers import FoundAnswer
from reasoning.values.capabilities import Capability
from reasoning.values.context import Context

GIVEN_CHARACTERS = 4
"""How much given text makes a token."""
TURN = "\x1e"
"""Stands around the user's turns in text that is given to a thread."""
Role = Literal["assistant", "user"]
ROLES: tuple[Role, ...] = ("assistant", "user")


def text_token(text: str, role: Role = "assistant") -> int:
    """The token of a text that was said by ``role``."""
    mark = b"\1" if role == "assistant" else b"\2"
    return int.from_bytes(mark + text.encode("utf-8", "surrogatepass"), "big")


END = text_token("", "user")
"""Ends an answer."""
FILLER = text_token("")
"""Stands for a token of which no text was sent."""


def text_of(ids: Sequence[int]) -> str:
    """The text of tokens, whoever said it."""
    return "".join(text for text, _ in map(_said, ids))


def chat_messages(ids: Sequence[int]) -> list[dict[str, str]]:
    """Tokens as chat messages: one for each run of the same role."""
    said = (one for one in map(_said, ids) if one[0])
    runs = groupby(said, lambda one: one[1])
    return [{"role": role, "content": "".join(text for text, _ in run)} for role, run in runs]


def _said(id: int) -> tuple[str, Role]:
    data = id.to_bytes((id.bit_length() + 7) // 8, "big")
    return data[1:].decode("utf-8", "surrogatepass"), ROLES[data[0] - 1]


def _cut(text: str, role: Role) -> Iterator[int]:
    """Given text as tokens."""
    for start in range(0, len(text), GIVEN_CHARACTERS):
        yield text_token(text[start : start + GIVEN_CHARACTERS], role)


class TextDialect:
    """Speaks to a model in text; answers are read by `read_answer`."""

    stop: frozenset[int] = frozenset()
    trained = False
    ends = frozenset({END})
    probe = "\n\nThe final answer is \\boxed{"

    def __init__(self, *, in_chat: bool = False, continues: bool = True) -> None:
        """With ``in_chat`` the server ends a question itself; not all go on with begun answers."""
        self._end_of_question = "" if in_chat else "\n"
        self._continues = continues
        known: list[Capability] = ["shared-threads", "continuing"]
        self.capabilities: frozenset[Capability] = frozenset(known[: 1 + continues])

    def encode(self, text: str) -> list[int]:
        parts = enumerate(text.split(TURN))
        return [id for n, part in parts for id in _cut(part, ROLES[n % 2])]

    def decoder(self) -> TextDecoder:
        return TextDecoder()

    def prompt(self, problem: Problem) -> Context:
        return self.ask(instructed(problem))

    def default_strategy(self, problem: Problem) -> str:
        return "single"

    def forms(self, problem: Problem) -> PromptedForms:
        return PromptedForms(
            problem=problem,
            ask=self.ask,
            say=text_of,
            turn=lambda text, *, cut=False: f"{TURN}\n\n{text}\n{TURN}",
            ends=self.ends,
            step_tokens=frozenset,
            continues=self._continues,
        )

    def ask(self, question: str) -> Context:
        return Context.given(list(_cut(f"{question}{self._end_of_question}", "user")))

    def answer(self, problem: Problem, text: str, *, finished: bool = True) -> FoundAnswer:
        return read(problem, text, finished=finished)


class TextDecoder:
    """Text tokens are text already."""

    def feed(self, token: int) -> str:
        return text_of([token])
