"""How a model is spoken to: prompts for problems, and answers out of what it wrote."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.errors import ExtraMissing
from reasoning.engine.config import ModelConfig
from reasoning.errors import ModelUnusable, ProblemRefused
from reasoning.language import markup
from reasoning.language.forms import Forms
from reasoning.language.forms.prompted import PromptedForms
from reasoning.language.forms.trained import TrainedForms, items
from reasoning.problems import Arithmetic, Countdown, Enumeration, Problem, Several, ShortestPaths
from reasoning.problems.expression import evaluate, largest, parse, render
from reasoning.values.capabilities import Capability
from reasoning.values.context import Context

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class StreamDecoder(Protocol):
    """Turns a thread's tokens into text, one by one."""

    def feed(self, token: int) -> str:
        """The text that this token adds; empty while a character is incomplete."""
        ...


class Dialect(Protocol):
    """One model's language."""

    capabilities: frozenset[Capability]
    stop: frozenset[int]
    """Tokens that stop a thread, beside the model's own end tokens."""
    ends: frozenset[int]
    """The model's own end tokens, as far as the dialect knows them."""
    probe: str
    """What makes a thread give, at any point, the answer that it has by then."""

    def encode(self, text: str) -> list[int]: ...

    def decoder(self) -> StreamDecoder: ...

    def prompt(self, problem: Problem) -> Context:
        """The context in which one thread solves the problem alone.

        Raises:
            ProblemRefused: the model can't do problems of this kind.
        """
        ...

    def answer(self, problem: Problem, text: str) -> str | None:
        """The answer that a thread's text gives, or None."""
        ...

    def forms(self, problem: Problem) -> Forms:
        """How threads on this problem that share what they wrote are spoken to."""
        ...


class MarkupDialect:
    """The language of the shipped models (`reasoning.language.markup`), in one of its versions."""

    probe = markup.ANSWER

    def __init__(self, tokenizer: Tokenizer, version: int = 2) -> None:
        self._tokenizer = tokenizer
        self.version = version
        known: list[Capability] = ["spawn-join", "shared-threads"]
        self.capabilities: frozenset[Capability] = frozenset(known[:version])
        self.ends = frozenset(self.encode(markup.EOS))
        self.stop = frozenset(self.encode(markup.JOIN))

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text).ids

    def decoder(self) -> StreamDecoder:
        return _SpacedDecoder(self._tokenizer)

    def prompt(self, problem: Problem) -> Context:
        match problem:
            case Countdown():
                mode, task = markup.SERIAL, countdown_message(problem)
            case Arithmetic():
                mode, task = markup.CALC, _expression(problem)
            case Several() if self.version > 1:
                mode, task = markup.EACH, items([*map(_expression, problem.parts)])
            case Enumeration() | ShortestPaths() if self.version > 1:
                form = self.forms(problem).share(1)
                return Context.given(form.prompt.tokens + self.encode(form.opening(1, 1)))
            case _:
                shared = ", several at once, enumerations and shortest paths"
                raise ProblemRefused(
                    "the shipped model does Countdown and arithmetic"
                    f"{shared * (self.version > 1)}, "
                    f"no {problem.domain} problem; name a model with --model PATH"
                )
        return self.context(mode, task)

    def forms(self, problem: Problem) -> TrainedForms:
        return TrainedForms(problem=problem, encode=self.encode)

    def spawning_prompt(self, message: str, budget: int) -> Context:
        """The context of a thread that may spawn up to ``budget`` children."""
        return self.context(markup.APR, f"{budget} : {message}")

    def context(self, mode: str, task: str) -> Context:
        return Context.given(self.encode(f"{markup.BOS} {mode} {task} :"))

    def answer(self, problem: Problem, text: str) -> str | None:
        if isinstance(problem, Enumeration | ShortestPaths):
            return self.forms(problem).share(1).merged([text])
        found = raw_answer(text)
        if found is None:
            return None
        return found.replace(" ", "").replace(",", ", ")


def raw_answer(text: str) -> str | None:
    """What stands between the answer marker and the end, or None."""
    _, marker, rest = text.rpartition(markup.ANSWER)
    found = _END.split(rest, maxsplit=1)
    return found[0].strip() or None if marker and len(found) > 1 else None


_END = re.compile("|".join((markup.EOS, markup.PATH_END, markup.THINK_END)))


def countdown_message(problem: Countdown) -> str:
    """A Countdown problem as one thread hands it to another."""
    return f"{' '.join(map(str, problem.numbers))} => {problem.target}"


def _expression(problem: Arithmetic) -> str:
    tree = parse(problem.expression)
    if isinstance(tree, int):
        raise ProblemRefused(f"{tree} has no operation; give an expression such as (17*3+5)*4")
    try:
        evaluate(tree)
        too_large = largest(tree) > markup.LARGEST
    except ValueError as error:
        raise ProblemRefused(f"{error}; the shipped model computes with 0 to 999 only") from error
    if too_large:
        raise ProblemRefused(
            f"the expression reaches {largest(tree)}; the shipped model computes with 0 to 999 only"
        )
    return render(tree)


class _SpacedDecoder:
    """Our tokens are words; the separating space belongs to the later one."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._space = ""

    def feed(self, token: int) -> str:
        piece = self._space + (self._tokenizer.id_to_token(token) or "")
        self._space = " "
        return piece


class ChatDialect:
    """Any chat or completion model: its own chat template, answers from ``\\boxed{}``."""

    capabilities: frozenset[Capability] = frozenset({"shared-threads"})
    stop: frozenset[int] = frozenset()
    probe = "\n\nThe final answer is \\boxed{"

    def __init__(self, folder: Path, ends: frozenset[int] = frozenset()) -> None:
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise ExtraMissing(
                "this model needs transformers; pip install 'parallel-reason[local]'"
            ) from error
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
        return self._ask(
            f"{problem.question}\nReason step by step, then put the answer in \\boxed{{}}."
        )

    def forms(self, problem: Problem) -> PromptedForms:
        return PromptedForms(
            problem=problem,
            ask=self._ask,
            turn=self._turn,
            ends=self.ends,
            paragraphs=self._paragraphs,
            boxed=boxed,
        )

    def _ask(self, question: str) -> Context:
        if not self._tokenizer.chat_template:
            return Context.given(self._tokenizer.encode(f"{question}\n"))
        text = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        return Context.given(self.encode(text))

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

    @cache  # noqa: B019  one dialect lives as long as its model
    def _paragraphs(self) -> frozenset[int]:
        """The tokens that end a paragraph; where there are none, those that end a line."""
        broken = [
            id for raw, id in self._tokenizer.get_vocab().items() if _NEWLINE.search(raw)
        ]  # decoding the whole vocabulary would take seconds
        decoded = {id: self._tokenizer.decode([id]) for id in broken}
        found = frozenset(id for id, text in decoded.items() if text.endswith("\n\n"))
        return found or frozenset(id for id, text in decoded.items() if text.endswith("\n"))

    def answer(self, problem: Problem, text: str) -> str | None:
        return boxed(text) or last_number(text)


_NEWLINE = re.compile(r"\n|Ċ|<0x0A>")
"""How tokenizers write the end of a line."""


class _IncrementalDecoder:
    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        from tokenizers.decoders import DecodeStream

        self._stream = DecodeStream(skip_special_tokens=True)

    def feed(self, token: int) -> str:
        if self._backend is None:
            return str(self._tokenizer.decode([token], skip_special_tokens=True))
        return self._stream.step(self._backend, token) or ""


def boxed(text: str) -> str | None:
    r"""The content of the last complete ``\boxed{...}``, braces balanced."""
    for start in reversed([match.end() for match in re.finditer(r"\\boxed\s*{", text)]):
        depth = 1
        for end in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                return text[start:end].strip() or None
    return None


def last_number(text: str) -> str | None:
    """The last number in a text, without commas."""
    numbers = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)
    return numbers[-1].replace(",", "") if numbers else None


def load_dialect(folder: Path, config: ModelConfig) -> MarkupDialect | ChatDialect:
    """The language of the model in ``folder``.

    Raises:
        ModelUnusable: its tokenizer is missing or broken.
    """
    if config.markup is None:
        return ChatDialect(folder, config.eos)
    path = folder / "tokenizer.json"
    from tokenizers import Tokenizer

    try:
        return MarkupDialect(Tokenizer.from_file(str(path)), config.markup)
    except Exception as error:  # the library raises a bare Exception
        raise ModelUnusable(f"{path} can't be read ({error}); install the package again") from error
