"""The language of any chat or completion model: its own template, answers from ``\\boxed{}``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.errors import importing
from reasoning.errors import BackendLost, ModelUnusable
from reasoning.language.dialect import StreamDecoder
from reasoning.language.prompted import PromptedForms, instructed, read
from reasoning.language.steps import MAY_END_RAW
from reasoning.problems import Problem
from reasoning.problems.answers import FoundAnswer
from reasoning.values.capabilities import Capability
from reasoning.values.context import Context


class ChatDialect:
    """Any chat or completion model: its own chat template, answers as `read_answer` finds them."""

    capabilities: frozenset[Capability] = frozenset({"shared-threads", "continuing"})
    stop: frozenset[int] = frozenset()
    trained = False
    probe = "\n\nThe final answer is \\boxed{"

    def __init__(self, folder: Path, ends: frozenset[int] = frozenset()) -> None:
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

        end = self._tokenizer.eos_token_id
        self.ends = ends if end is None else ends | {end}

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def decoder(self) -> StreamDecoder:
        return _IncrementalDecoder(self._tokenizer)

    def prompt(self, problem: Problem) -> Context:
        return self.ask(instructed(problem))

    def default_strategy(self, problem: Problem) -> str:
        return "single"

    def forms(self, problem: Problem) -> PromptedForms:
        return PromptedForms(
            problem=problem,
            ask=self.ask,
            say=self._say,
            turn=self._turn,
            ends=self.ends,
            step_tokens=self._step_tokens,
        )

    def ask(self, question: str) -> Context:
        if not self._tokenizer.chat_template:
            text = f"{question}\n"
            return Context.given(self._tokenizer.encode(text, **self._as_text(text)))
        if self._as_text(question):
            before, found, after = self._rendered(_PLACE).partition(_PLACE)
            if found:
                asked = self._tokenizer.encode(question, add_special_tokens=False, **_AS_TEXT)
                return Context.given([*self.encode(before), *asked, *self.encode(after)])
        return Context.given(self.encode(self._rendered(question)))

    def _rendered(self, question: str) -> str:
        """The prompt in the template's words."""
        rendered: str = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        return rendered

    def _as_text(self, text: str) -> dict[str, bool]:
        """How to encode a text so that control tokens that somebody typed stay text."""
        return _AS_TEXT if any(one in text for one in self._control_tokens()) else {}

    @cache  # noqa: B019  one dialect lives as long as its model
    def _control_tokens(self) -> frozenset[str]:
        added = self._tokenizer.added_tokens_decoder.values()
        named = (token.content for token in added if token.special)
        return frozenset({*named, *self._tokenizer.all_special_tokens})

    def _turn(self, text: str, *, cut: bool = False) -> str:
        """What follows a model's ended turn: the user's next one and the model's opening.

        One that was ``cut`` is ended first.
        """
        if not self._tokenizer.chat_template:
            return f"\n\n{text}\n"
        said = "What was said."
        turns = [("user", "?"), ("assistant", said), ("user", text)]
        whole: str = self._tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in turns],
            tokenize=False,
            add_generation_prompt=True,
        )
        rest = whole.rpartition(said)[2]
        end = self._tokenizer.eos_token or ""
        before, _, after = rest.partition(end) if end else (rest, "", "")
        if not end or before.strip():  # the template does not write it
            return end * cut + rest
        return end * cut + after

    def _say(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(tokens))

    @cache  # noqa: B019  one dialect lives as long as its model
    def _step_tokens(self) -> frozenset[int]:
        """The tokens after which a step may end: those of line breaks and of sentences' ends."""
        # Decoding the whole vocabulary would take seconds.
        return frozenset(
            id for raw, id in self._tokenizer.get_vocab().items() if MAY_END_RAW.search(raw)
        )

    def answer(self, problem: Problem, text: str, *, finished: bool = True) -> FoundAnswer:
        return read(problem, text, finished=finished)


_AS_TEXT = {"split_special_tokens": True}
_PLACE = "The question stands here."
HELD = 64
"""So many tokens may wait for the end of a character."""


class _IncrementalDecoder:
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
