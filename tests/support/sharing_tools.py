"""A language of single letters, for strategies on tiny random models and on scripted backends."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import torch

from reasoning.backends.base import Backend, Generation, Token
from reasoning.backends.embedded import EmbeddedBackend
from reasoning.engine.engine import Engine
from reasoning.language.dialect import Dialect
from reasoning.language.forms import Outline, SpawnForm
from reasoning.language.steps import StepEnds
from reasoning.models.loaded import LoadedModel
from reasoning.problems import FreeForm, Problem
from reasoning.problems.answers import FoundAnswer
from reasoning.run.run import Run
from reasoning.values.capabilities import Capability
from reasoning.values.context import Context, Gang, Segment
from reasoning.values.conversation import Conversation, ToolCall
from reasoning.values.sampling import Sampling, StopReason

VOCABULARY = 128
END = 0
SOME = frozenset(range(1, VOCABULARY, 7))
"""Tokens that a random model often meets."""
QUESTION = FreeForm(question="Why?")


def ids(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def text(tokens: Sequence[int]) -> str:
    return "".join(map(chr, tokens))


@dataclass(kw_only=True)
class Fork:
    """``ab^`` asks for branches a and b; a branch ends with ``.``."""

    parts: int = 0
    """Where any stop token asks for so many branches, on a model that writes anything."""
    deep: int = 1
    prompt: Context = field(default_factory=lambda: Context.given(ids("Prompt")))
    conclusion: str = "C"
    alone: str = ""
    once: bool = False

    def closing(self, texts: Sequence[str]) -> str:
        return ""

    @property
    def stop(self) -> frozenset[int]:
        return SOME if self.parts else frozenset(ids("^."))

    def asks(self, text: str, depth: int) -> bool:
        fits = depth < self.deep and not text.endswith(chr(END))
        return fits if self.parts else text.endswith("^")

    def outlines(self, text: str) -> list[Outline]:
        goals = "abcdefgh"[: self.parts] or text.removesuffix("^")
        if len(goals) < 2:
            raise ValueError("it has fewer than two parts")
        return [Outline(goal, f"{goal}:") for goal in goals]


@dataclass(kw_only=True)
class Paths:
    """Path 2 opens with ``2:``; one that wrote an answer, such as ``=7``, has solved it."""

    stop: frozenset[int] = frozenset(ids("."))
    prompt: Context = field(default_factory=lambda: Context.given(ids("Prompt")))
    summary: str = "S"
    any: bool = False

    def opening(self, path: int) -> str:
        return f"{path}:"

    def closing(self, texts: Sequence[str]) -> str:
        return ""

    def retold(self, texts: Sequence[str]) -> Context | None:
        return None

    def solved(self, text: str, answer: str | None) -> bool:
        return self.any or "=" in text


@dataclass(kw_only=True)
class Share:
    """Worker 2 opens each step with ``2:``; all is done after so many letters."""

    at: frozenset[int] = frozenset(ids("."))
    most: int = 150
    prompt: Context = field(default_factory=lambda: Context.given(ids("Prompt")))
    check: str = ""
    finisher: str = ""
    room: int | None = None
    others: str = ""
    own: str = ""

    @property
    def steps(self) -> StepEnds:
        return StepEnds(tokens=self.at)

    def closing(self, texts: Sequence[str]) -> str:
        return ""

    def asked(self, worker: int, workers: int, steps: str, *, check: bool) -> str | None:
        return None

    def told(self, worker: int, text: str) -> str:
        return text

    def left(self, text: str) -> bool:
        return False

    def opening(self, worker: int, workers: int) -> str:
        return f"{worker}:"

    def merged(self, texts: Sequence[str]) -> str | None:
        return None if self.finisher else "+".join(texts)

    def complete(self, texts: Sequence[str]) -> bool:
        return sum(map(len, texts)) >= self.most


@dataclass(kw_only=True)
class Letters:
    """The dialect, and the forms that are to be spoken."""

    fork_form: Fork = field(default_factory=Fork)
    path_form: Paths = field(default_factory=Paths)
    share_form: Share = field(default_factory=Share)
    capabilities: frozenset[Capability] = frozenset({"shared-threads", "continuing"})
    stop: frozenset[int] = frozenset()
    ends: frozenset[int] = frozenset({END})
    probe: str = ""
    trained: bool = False
    vocabulary: str = "letters"
    fields: Mapping[str, Any] = field(default_factory=dict)
    emulated: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()

    def within(self, conversation: Conversation, *, instruction: str | None = None) -> Letters:
        return self

    def tool_calls(self, text: str) -> tuple[ToolCall, ...]:
        return ()

    def encode(self, text: str) -> list[int]:
        return ids(text)

    def decoder(self) -> Letters:
        return self

    def feed(self, token: int) -> str:
        return chr(token)

    def prompt(self, problem: Problem) -> Context:
        return Context.given(ids("Prompt"))

    def answer(self, problem: Problem, text: str, *, finished: bool = True) -> FoundAnswer:
        found: list[str] = re.findall(r"=(\w)", text)
        answer = found[-1] if found else None
        return FoundAnswer(answer=answer, source="cue" if found else "none", text=text)

    def ask(self, question: str) -> Context:
        return Context.given(ids(question))

    def default_strategy(self, problem: Problem) -> str:
        return "single"

    def forms(self, problem: Problem) -> Letters:
        return self

    def spawning(self) -> SpawnForm:
        raise NotImplementedError

    def fork(self) -> Fork:
        return self.fork_form

    def paths(self) -> Paths:
        return self.path_form

    def share(self, workers: int) -> Share:
        return self.share_form


def random_folder(folder: Path, **extra: Any) -> Path:
    """A random Llama that knows the letters; the shape is that of the engine's other tests."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "bos_token_id": None,
            "eos_token_id": END,
            "pad_token_id": END,
            "initializer_range": 0.3,
        }
        | extra
    )
    model = LlamaForCausalLM(config)
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().float()
    model.save_pretrained(folder)
    return folder


def letter_model(
    *,
    dialect: Dialect,
    engine: Engine | None = None,
    script: Script | None = None,
    kind: type[EmbeddedBackend] = EmbeddedBackend,
    context: int = 256,
) -> LoadedModel:
    """A model of letters, embedded or scripted."""
    backend: Any = script
    if backend is None:
        assert engine is not None
        backend = kind(engine)
    return LoadedModel(name="letters", dialect=dialect, context=context, backend=backend)


class Turn(NamedTuple):
    """What a thread saw when it was let write: others' text, its own so far, and where it stood."""

    seen: str
    own: str
    home: int


Say = Callable[[str, str], str]


class Script(Backend):
    """A backend whose threads write what a function says of what each sees and has by itself.

    ``$`` at the end of a text is the end of the context.
    """

    def __init__(
        self,
        say: Say,
        *capabilities: Capability,
        encode: Callable[[str], list[int]] = ids,
        decode: Callable[[Sequence[int]], str] = text,
    ) -> None:
        self.say = say
        self.encode = encode
        self.decode = decode
        self.capabilities: frozenset[Capability] = frozenset(capabilities)
        self.turns: list[Turn] = []

    def open(
        self,
        segment: Segment,
        sampling: Sampling,
        *,
        stop: Collection[int] = (),
        limit: int | None = None,
        gang: Gang | None = None,
    ) -> Spoken:
        self.open_threads += 1
        return Spoken(self, segment)


class Spoken(Generation):
    def __init__(self, backend: Script, segment: Segment) -> None:
        self.backend = backend
        self.segment = segment

    async def tokens(self) -> AsyncIterator[Token]:
        own, decode = self.segment, self.backend.decode
        turn = Turn(decode(own.context.tokens), decode(own.tokens), own.home)
        self.backend.turns.append(turn)
        said = self.backend.say(turn.seen, turn.own)
        reason: StopReason = "length" if said.endswith("$") else "stop"
        written = self.backend.encode(said.removesuffix("$"))
        for index, token in enumerate(written):
            await anyio.lowlevel.checkpoint()
            yield Token(token, -0.5, reason if index == len(written) - 1 else None)

    def extend(self, tokens: Sequence[int]) -> None:
        pass

    def resume(self, segment: Segment) -> None:
        self.segment = segment

    def close(self) -> None:
        self.backend.open_threads -= 1


def scripted_run(script: Script, dialect: Letters | None = None, *, max_tokens: int = 512) -> Run:
    return Run(
        problem=QUESTION,
        backend=script,
        dialect=dialect or Letters(),
        max_tokens=max_tokens,
    )
