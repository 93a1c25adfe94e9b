"""The language of a model that forks and joins in a tongue of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

from reasoning.errors import CapabilityMissing, ProblemRefused
from reasoning.language.chat import ChatDialect
from reasoning.language.chat_format.tokenizer import ChatTokenizer
from reasoning.language.dialect import Dialect, StreamDecoder
from reasoning.language.native.description import NativeFormat
from reasoning.language.native.node_states import path_answer
from reasoning.language.native.tongue import Tongue, check_tensors
from reasoning.language.prompted import read
from reasoning.problems import Countdown, Problem
from reasoning.problems.answers import FoundAnswer, Source
from reasoning.values.context import Context
from reasoning.values.conversation import Conversation

NATIVE = "native"
"""The strategy that runs such a model as its authors mean it."""


class NativeSpeech(Dialect, Protocol):
    """The language of a model that has a tongue of its own, as the loops of tongues need it.

    Attributes:
        format: What the tongue's strings mean.
    """

    format: NativeFormat

    def asked_again(self, problem: Problem, references: Sequence[str]) -> Context:
        """The context of a thread that answers a problem in view of earlier answers to it."""
        ...

    def begin(self, text: str) -> list[int]:
        """The tokens of a text that begins with nothing before it."""
        ...


class NativeLanguage:
    """What the languages share of models that have a tongue of their own.

    Attributes:
        format: What the tongue's strings mean.
        chosen: How it is known that the model has this tongue, in words.
        notes: What is not as expected and is no reason to refuse the model.
        instruction: Stands in place of the format's; None leaves that.
    """

    format: NativeFormat
    chosen: str = "as asked"
    notes: Sequence[str] = ()
    instruction: str | None

    @property
    def recognised(self) -> str:
        """Which tongue it is, and how that is known, in one line."""
        notes = "".join(f"; {note}" for note in self.notes)
        return f"dialect: {self.format.name} ({self.chosen}){notes}"

    def default_strategy(self, problem: Problem) -> str:
        return NATIVE

    @property
    def told(self) -> str:
        """The instruction that stands beside a question."""
        return self.format.prompt.instruction if self.instruction is None else self.instruction

    def unheard(self, conversation: Conversation, instruction: str | None) -> frozenset[str]:
        """What was asked for and is no part of the family's prompt.

        Raises:
            CapabilityMissing: messages are, or what only a chat template knows; naming the family.
        """
        parts, lost = self.format.prompt, set[str]()
        if instruction and "{instruction}" not in parts.asked:
            lost.add("instruction")
        if parts.raw is None:
            return frozenset(lost)
        several = len(conversation.asking("")) > 1
        if several or conversation.tools or conversation.template:
            raise CapabilityMissing(
                f"system, messages, tools, chat-template-kwargs: {self.format.name} has one "
                "question in a prompt of its own; leave them out, or give --dialect none"
            )
        asked = {"thinking": conversation.thinking, "effort": conversation.effort}
        return frozenset(lost.union(name for name, value in asked.items() if value is not None))

    def words(self, problem: Problem) -> str:
        """A problem as the family puts it.

        Raises:
            ProblemRefused: the family does another kind alone.
        """
        if self.format.prompt.domain:
            return _countdown(problem, self.format.name)
        return problem.question

    def answer(self, problem: Problem, text: str, *, finished: bool = True) -> FoundAnswer:
        if self.format.function == "apr":
            return path_answer(text, finished=finished)
        rule = self.format.answer
        region = _region(text, rule.after, last=rule.last)
        if region is None and rule.needed:
            return FoundAnswer(answer=None, source="none", text=text, complete=finished)
        final = text if region is None else region
        if rule.characters is not None:
            final = final[-rule.characters :]
        if rule.pattern:
            found = re.findall(rule.pattern, final)
            answer = found[-1].strip() if found else None
            source: Source = "none" if answer is None else "pattern"
            return FoundAnswer(answer=answer, source=source, text=final, complete=finished)
        return read(problem, final, finished=finished)


def listed(references: Sequence[str]) -> str:
    """Earlier answers as a later round is given them."""
    return "\n\n".join(f"Reference {k}:\n{one}" for k, one in enumerate(references, start=1))


class NativeDialect(NativeLanguage, ChatDialect):
    """A chat model's language, and the tongue in which it forks and joins.

    What an asker writes never becomes a control token; the instruction's tags do, as in training.

    Attributes:
        tongue: Its control strings as this model has them.
    """

    def __init__(
        self,
        folder: Path,
        ends: frozenset[int],
        format: NativeFormat,
        *,
        layers: int = 0,
        tokenizer: ChatTokenizer | None = None,
    ) -> None:
        """Load the tokenizer and check the tongue against it.

        Raises:
            ModelUnusable: a control string, its number or a learnt tensor is not as it must be.
        """
        super().__init__(folder, ends, tokenizer)
        self.format = format
        self.tongue = Tongue(format, self._tokenizer, str(folder))
        self.notes = self.tongue.notes
        self._tokenizer.guarded = frozenset(self._tokenizer.added)
        check_tensors(format, folder, layers)
        self.capabilities = self.capabilities | {"native-format"}

    def within(self, conversation: Conversation, *, instruction: str | None = None) -> Self:
        other = super().within(conversation, instruction=instruction)
        other.ignored |= self.unheard(conversation, instruction)
        return other

    def decoder(self) -> StreamDecoder:
        return self.tongue.decoder()

    def prompt(self, problem: Problem) -> Context:
        return self.ask(self.words(problem))

    def ask(self, question: str) -> Context:
        parts, hidden = self.format.prompt, list[str]()
        words = {"question": self._hide(question, hidden=hidden), "instruction": self.told}
        if parts.raw is None:
            return self._asked(fill(parts.user, **words), hidden)
        return self._given(fill(parts.raw, bos=self._bos, opening=parts.opening, **words), hidden)

    def asked_again(self, problem: Problem, references: Sequence[str]) -> Context:
        hidden: list[str] = []
        words = {
            "question": self._hide(problem.question, hidden=hidden),
            "references": self._hide(listed(references), hidden=hidden),
        }
        return self._asked(fill(self.format.prompt.instruction, **words), hidden)

    def begin(self, text: str) -> list[int]:
        return self.encode(f"{self._bos}{text}")

    @property
    def _bos(self) -> str:
        return self._tokenizer.named.get("bos_token", "")

    def _asked(self, user: str, hidden: list[str]) -> Context:
        """The context of a user's message, whose instruction's tags are tokens."""
        parts = self.format.prompt
        if not self._tokenizer.template:
            return self._given(f"{user}\n{parts.opening}", hidden)
        said = [
            message.as_dict()
            if message.text == user
            else self._hide(message.as_dict(), hidden=hidden)
            for message in self.conversation.asking(user)
        ]
        switch = {} if parts.thinking is None else {"enable_thinking": parts.thinking}
        rendered = self._rendered(said, **switch)
        return self._given(rendered + parts.opening, hidden)

    def _given(self, prompt: str, hidden: Sequence[str]) -> Context:
        """The context of a prompt, filled up as the family has it."""
        parts, tokens = self.format.prompt, [*self._encoded(prompt, hidden)]
        filler = self.tongue.encode(parts.filler)
        return Context.given([*tokens, *filler * (-len(tokens) % parts.multiple)])


def fill(text: str, **words: str) -> str:
    """A text with its slots filled; braces that name none stay, and no word is filled again."""
    return re.sub(r"\{(\w+)\}", lambda slot: words.get(slot[1], slot[0]), text)


def _region(text: str, after: str, *, last: bool) -> str | None:
    """What stands behind a marker; None where the marker is missing."""
    if not after:
        return text
    _, found, rest = text.rpartition(after) if last else text.partition(after)
    return rest if found else None


def _countdown(problem: Problem, name: str) -> str:
    """A Countdown problem as APR's root states it.

    Raises:
        ProblemRefused: it is another problem.
    """
    asked = problem if isinstance(problem, Countdown) else getattr(problem, "checker", None)
    if not isinstance(asked, Countdown):
        raise ProblemRefused(
            f"{name} does countdown alone; state it as 'Use 3, 10, 21 and 23 to make 50'"
        )
    return f"{asked.target}:[{', '.join(map(str, asked.numbers))}]"
