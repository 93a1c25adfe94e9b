"""The language of a model whose tokenizer is unknown: runs of text stand for tokens.

Given text is cut into runs of four characters, about a token each; each run of an answer is what
was received at once.  A server's own counts stand in the usage.  A token is its text, written as a
number, so that equal texts are equal tokens everywhere and nothing has to remember them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from copy import copy
from typing import Any, Literal, Self

from reasoning.backends.base import Token
from reasoning.errors import BackendLost, CapabilityMissing
from reasoning.language.chat_format.tool_calls import find_calls, names_of
from reasoning.language.prompted import (
    SAMPLED,
    PromptedForms,
    followed,
    instructed,
    read,
    transcript,
)
from reasoning.problems import Problem
from reasoning.problems.answers import FoundAnswer
from reasoning.values.capabilities import Capability
from reasoning.values.context import Context
from reasoning.values.conversation import EMPTY, Conversation, Message, ToolCall

GIVEN_CHARACTERS = 4
"""How much given text makes a token."""
TURN = "\x1e"
"""Stands around the user's turns in text that is given to a thread."""
Role = Literal["assistant", "user", "message", "rest of a message"]
"""Who said a text; or a piece of a whole message, as JSON."""
ROLES: tuple[Role, ...] = ("assistant", "user", "message", "rest of a message")


def text_token(text: str, role: Role = "assistant") -> int:
    """The token of a text that was said by ``role``."""
    mark = bytes([ROLES.index(role) + 1])
    return int.from_bytes(mark + text.encode("utf-8", "surrogatepass"), "big")


END = text_token("", "user")
"""Ends an answer."""
FILLER = text_token("")
"""Stands for a token of which no text was sent."""


def text_of(ids: Sequence[int]) -> str:
    """The text of tokens, whoever said it."""
    return "".join(text for text, _ in map(_said, ids))


def size_of(id: int) -> float:
    """About how many of a model's own tokens a text is: one for four bytes, or for no text."""
    length = (id.bit_length() + 7) // 8 - 1
    return length / GIVEN_CHARACTERS if length else 1.0


class AnotherAnswer(BackendLost):
    """An answer that was lost is another when it is asked for again."""


async def behind(
    answer: AsyncGenerator[Token, None], said: str, *, loss: str
) -> AsyncGenerator[Token, None]:
    """The tokens of an answer behind what it said before its ``loss``, and says again.

    Raises:
        AnotherAnswer: it says something else this time.
    """
    left = said
    async with aclosing(answer):
        async for token in answer:
            if not left:
                yield token
                continue
            piece = text_of([token.token])
            same, new = piece[: len(left)], piece[len(left) :]
            if not left.startswith(same) or (token.reason is not None and same != left):
                raise AnotherAnswer(f"{loss}; asked for again it was another answer")
            left = left[len(same) :]
            if new or token.reason is not None:
                yield token._replace(token=text_token(new))


def chat_messages(ids: Sequence[int]) -> list[dict[str, Any]]:
    """Tokens as chat messages: whole ones, and one for each run of the same role."""
    runs: list[tuple[Role, list[str]]] = []
    for text, role in map(_said, ids):
        if role == "rest of a message" or (text and runs and role == runs[-1][0] != "message"):
            runs[-1][1].append(text)
        elif text:
            runs.append((role, [text]))
    return [_message(role, "".join(pieces)) for role, pieces in runs]


def message_tokens(message: Message) -> list[int]:
    """A whole message as tokens, about as many as its text has."""
    first, *rest = _pieces(json.dumps(message.as_dict(), ensure_ascii=False))
    return [text_token(first, "message"), *(text_token(one, "rest of a message") for one in rest)]


def _message(role: Role, text: str) -> dict[str, Any]:
    found: dict[str, Any] = {"role": role, "content": text}
    return found if role in ("assistant", "user") else json.loads(text)


def _said(id: int) -> tuple[str, Role]:
    data = id.to_bytes((id.bit_length() + 7) // 8, "big")
    return data[1:].decode("utf-8", "surrogatepass"), ROLES[data[0] - 1]


def cut(text: str, role: Role) -> Iterator[int]:
    """Given text as tokens."""
    return (text_token(piece, role) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), GIVEN_CHARACTERS):
        yield text[start : start + GIVEN_CHARACTERS]


class TextDialect:
    """Speaks to a model in text; answers are read by `read_answer`.

    Attributes:
        in_chat: Whether it is given messages, and ends a question itself.
        conversation: What stands around each question.
        instruction: What is appended to it; see `Dialect.within`.
    """

    stop: frozenset[int] = frozenset()
    trained = False
    ends = frozenset({END})
    vocabulary = "text"
    probe = "\n\nThe final answer is \\boxed{"

    emulated: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()

    def __init__(self, *, in_chat: bool = False, continues: bool = True) -> None:
        """With ``in_chat`` the server ends a question itself; not all go on with begun answers."""
        self.in_chat = in_chat
        self.conversation = EMPTY
        self.instruction: str | None = None
        self._continues = continues
        known: list[Capability] = ["words", "shared-threads", "continuing"]
        self.capabilities: frozenset[Capability] = frozenset(known[: 2 + continues])

    def within(self, conversation: Conversation, *, instruction: str | None = None) -> Self:
        other = copy(self)
        other.conversation, other.instruction = conversation, instruction
        if self.in_chat:
            return other
        if conversation.tools or conversation.template:
            raise CapabilityMissing(
                "tools, chat-template-kwargs: this server is asked in text, without its chat "
                "template; leave them out, or use --engine mode=chat where it has chat"
            )
        transcript(conversation.messages)  # raises what can't be written
        plain = {"plain-chat"} if conversation.messages else ()
        asked = {"thinking": conversation.thinking, "effort": conversation.effort}
        other.emulated = frozenset(plain)
        other.ignored = frozenset(name for name, value in asked.items() if value is not None)
        return other

    @property
    def fields(self) -> Mapping[str, Any]:
        talk = self.conversation
        told = {
            "tools": list(talk.tools),
            "chat_template_kwargs": talk.switches,
            "reasoning_effort": talk.effort,
        }
        return {name: value for name, value in told.items() if value and self.in_chat}

    def encode(self, text: str) -> list[int]:
        parts = enumerate(text.split(TURN))
        return [id for n, part in parts for id in cut(part, ROLES[n % 2])]

    def decoder(self) -> TextDecoder:
        return TextDecoder()

    def prompt(self, problem: Problem) -> Context:
        return self.ask(instructed(problem, self.conversation, self.instruction))

    def default_strategy(self, problem: Problem) -> str:
        return SAMPLED

    def forms(self, problem: Problem) -> PromptedForms:
        return PromptedForms(
            problem=problem,
            ask=lambda question: self.ask(followed(question, self.instruction)),
            prompt=lambda: self.prompt(problem),
            say=text_of,
            turn=lambda text, *, cut=False: f"{TURN}\n\n{text}\n{TURN}",
            ends=self.ends,
            step_tokens=frozenset,
            continues=self._continues,
        )

    def ask(self, question: str) -> Context:
        *before, last = self.conversation.asking(question)
        if not self.in_chat:
            text = transcript([*before, last]) if before else f"{question}\n"
            return Context.given(list(cut(text, "user")))
        tokens = [token for message in before for token in message_tokens(message)]
        if last.role == "user" and last.plain:
            return Context.given([*tokens, *cut(last.text, "user")])
        return Context.given([*tokens, *message_tokens(last)])

    def tool_calls(self, text: str) -> tuple[ToolCall, ...]:
        names = names_of(self.conversation.tools)
        return find_calls(text, names) if names else ()

    def answer(self, problem: Problem, text: str, *, finished: bool = True) -> FoundAnswer:
        return read(problem, text, finished=finished)


class TextDecoder:
    """Text tokens are text already."""

    def feed(self, token: int) -> str:
        return text_of([token])
