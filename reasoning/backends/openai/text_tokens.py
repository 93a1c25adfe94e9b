"""The language of a model whose tokenizer is unknown: pieces of text stand for tokens.

Given text is cut into pieces of four characters, about a token each; each piece of an answer is
what the server sent at once.  The server's own counts stand in the usage.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Literal, NamedTuple

from reasoning.language.dialects import boxed, last_number
from reasoning.language.forms.prompted import PromptedForms
from reasoning.problems import Problem
from reasoning.values.capabilities import Capability
from reasoning.values.context import Context

PIECE = 4
ASK = "Reason step by step, then put the answer in \\boxed{}."
TURN = "\x1e"
"""Stands around the user's turns in text that is given to a thread."""
Role = Literal["user", "assistant"]


class Piece(NamedTuple):
    text: str
    role: Role


class Pieces:
    """Pieces by number: the same piece always has the same."""

    def __init__(self) -> None:
        self._all: list[Piece] = []
        self._ids: dict[Piece, int] = {}
        self.end = self.id("", "user")
        """Ends an answer."""
        self.filler = self.id("")
        """Stands for a token of which no text was sent."""

    def id(self, text: str, role: Role = "assistant") -> int:
        piece = Piece(text, role)
        found = self._ids.get(piece)
        if found is None:
            found = self._ids[piece] = len(self._all)
            self._all.append(piece)
        return found

    def cut(self, text: str, role: Role) -> list[int]:
        """Given text as pieces."""
        return [self.id(text[i : i + PIECE], role) for i in range(0, len(text), PIECE)]

    def text(self, ids: Sequence[int]) -> str:
        return "".join(self._all[id].text for id in ids)

    def messages(self, ids: Sequence[int]) -> list[dict[str, str]]:
        """Pieces as chat messages: one for each run of the same role."""
        pieces = (self._all[id] for id in ids if self._all[id].text)
        runs = groupby(pieces, lambda piece: piece.role)
        return [{"role": role, "content": "".join(p.text for p in run)} for role, run in runs]


class PieceDialect:
    """Speaks to a server in text; answers are read from ``\\boxed{}``."""

    capabilities: frozenset[Capability] = frozenset({"shared-threads"})
    stop: frozenset[int] = frozenset()
    probe = "\n\nThe final answer is \\boxed{"

    def __init__(self, pieces: Pieces) -> None:
        self.pieces = pieces
        self.ends = frozenset({pieces.end})

    def encode(self, text: str) -> list[int]:
        roles: tuple[Role, ...] = ("assistant", "user")
        parts = text.split(TURN)
        return [id for n, part in enumerate(parts) for id in self.pieces.cut(part, roles[n % 2])]

    def decoder(self) -> PieceDecoder:
        return PieceDecoder(self.pieces)

    def prompt(self, problem: Problem) -> Context:
        return self._ask(f"{problem.question}\n{ASK}")

    def forms(self, problem: Problem) -> PromptedForms:
        return PromptedForms(
            problem=problem,
            ask=self._ask,
            turn=lambda text, *, cut=False: f"{TURN}\n\n{text}\n{TURN}",
            ends=self.ends,
            paragraphs=frozenset,
            boxed=boxed,
        )

    def _ask(self, question: str) -> Context:
        return Context.given(self.pieces.cut(f"{question}\n", "user"))

    def answer(self, problem: Problem, text: str) -> str | None:
        return boxed(text) or last_number(text)


class PieceDecoder:
    """Pieces are text already."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces

    def feed(self, token: int) -> str:
        return self._pieces.text([token])
