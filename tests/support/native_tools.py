"""Tokenizers with a family's control strings, and a model that writes tokens by a script."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from orchestrator import Event
from reasoning import Reasoner, Solution
from reasoning.backends.base import Backend, Generation, Token
from reasoning.language.native.catalog import choose_format, family
from reasoning.language.native.description import NativeFormat, PlanRule
from reasoning.language.native.dialect import NativeDialect
from reasoning.models.loaded import LoadedModel
from reasoning.options import SolveOptions
from reasoning.problems import Problem
from reasoning.strategies.tongues.speaker import TranscriptEnded
from reasoning.values.capabilities import Capability
from reasoning.values.context import Gang, Segment
from reasoning.values.sampling import Sampling, StopReason

END = "<|im_end|>"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKS = [
    "<|endoftext|>",
    "<|im_start|>",
    END,
    "<｜User｜>",
    "<｜Assistant｜>",
    "<think>",
    "</think>",
]
"""What base tokenizers have; the last two are tokens and not special, as Qwen has them."""
MERGES = [("Ċ", "Ċ"), ("1", ":"), ("o", "n"), ("on", "e")]
"""So that a text has more than one way to be written in tokens."""


def write_tokenizer(
    folder: Path, controls: Sequence[str], *, template: str | None = CHATML
) -> None:
    """A byte-level tokenizer with these control strings as added tokens, in a folder."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    symbols = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(one) for one in MERGES)]
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    tokenizer = Tokenizer(models.BPE(vocabulary, MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    for one in dict.fromkeys([*MARKS, *controls]):
        special = one not in MARKS[-2:]
        tokenizer.add_tokens([AddedToken(one, special=special, normalized=False)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"eos_token": END, "bos_token": MARKS[0]}
    written = named if template is None else {**named, "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(written))


def native_dialect(folder: Path, name: str, format: NativeFormat | None = None) -> NativeDialect:
    """A family's dialect over such a tokenizer."""
    format = format or (choose_format(name) if ":" in name else family(name))
    write_tokenizer(folder, [control.text for control in format.controls])
    return NativeDialect(folder, frozenset(), format)


@dataclass(kw_only=True)
class Request:
    """What a scripted model was asked, and wrote.

    Attributes:
        prompt: All tokens that it saw.
        positions: Where its own given tokens begin.
        written: What it wrote until it stopped.
    """

    prompt: list[int]
    start: int
    stop: frozenset[int]
    sampling: Sampling
    path: int
    written: list[int] = field(default_factory=list)


class ScriptedModel(Backend):
    """Writes what its script has for the longest end of what it sees; then it is cut by length.

    Attributes:
        script: What is written, by the end of the text before it; text, or token ids.
        requests: All requests, in order.
    """

    def __init__(
        self,
        dialect: NativeDialect,
        script: Mapping[str, str | Sequence[int]],
        *capabilities: Capability,
    ) -> None:
        self.dialect = dialect
        self.script = script
        self.capabilities = frozenset(capabilities)
        self.requests: list[Request] = []

    def open(
        self,
        segment: Segment,
        sampling: Sampling,
        *,
        stop: Collection[int] = (),
        limit: int | None = None,
        gang: Gang | None = None,
    ) -> Generation:
        self.open_threads += 1
        return _Generation(self, segment, sampling, frozenset(stop), limit or 10**9)

    def reply(self, prompt: list[int]) -> list[int]:
        text = self.dialect._tokenizer.decode(prompt)
        fits = [end for end in self.script if text.endswith(end)]
        assert fits, f"nothing is scripted behind {text[-80:]!r}"
        found = self.script[max(fits, key=len)]
        return self.dialect.encode(found) if isinstance(found, str) else list(found)


class _Generation(Generation):
    def __init__(
        self,
        model: ScriptedModel,
        segment: Segment,
        sampling: Sampling,
        stop: frozenset[int],
        limit: int,
    ) -> None:
        self.model, self.segment, self.stop, self.limit = model, segment, stop, limit
        self.sampling = sampling
        self.closed = False
        self.most = sampling.max_new_tokens or 10**9

    async def tokens(self) -> AsyncIterator[Token]:
        segment = self.segment
        prompt = segment.context.tokens + segment.tokens
        request = Request(
            prompt=prompt,
            start=segment.home,
            stop=self.stop,
            sampling=self.sampling,
            path=segment.path,
        )
        self.model.requests.append(request)
        ids = self.model.reply(prompt)
        for index, token in enumerate(ids):
            await anyio.lowlevel.checkpoint()
            self.most -= 1
            reason: StopReason | None = None
            if token in self.stop | self.model.dialect.ends:
                reason = "stop"
            elif index == len(ids) - 1 or self.most <= 0 or segment.position + 1 >= self.limit:
                reason = "length"
            request.written.append(token)
            yield Token(token, -0.5, reason)
            if reason:
                return

    def extend(self, tokens: Sequence[int]) -> None:
        pass

    def resume(self, segment: Segment) -> None:
        self.segment = segment

    def close(self) -> None:
        self.model.open_threads -= not self.closed
        self.closed = True


@dataclass(kw_only=True)
class Transcript:
    """What a run asked for, gave and ended with."""

    solution: Solution
    requests: list[Request]
    events: list[Event]
    dialect: NativeDialect

    @property
    def asked(self) -> list[str]:
        """Every request's tokens as text."""
        return [self.dialect._tokenizer.decode(one.prompt) for one in self.requests]

    @property
    def final(self) -> list[int]:
        """The whole sequence at the end."""
        ended = [event for event in self.events if isinstance(event, TranscriptEnded)]
        return list(ended[-1].tokens)

    def ids(self, text: str) -> list[int]:
        """What a text is in tokens, its control strings included."""
        return self.dialect.encode(text)

    def assert_golden(
        self, *expected: tuple[str | list[int], str, tuple[str, ...]], final: str | list[int]
    ) -> None:
        """Compare every request's ids, what was written to it and where it could stop, and the
        whole sequence, with texts; branches ask in an order of their own.

        What can stop a request is a control string, or of tongues in plain text a text; its end
        token always can.
        """
        tags, end = self.dialect.tongue.ids, self.ids(END)
        assert sorted(
            (one.prompt, one.written, sorted({*one.stop, *end}), one.sampling.stop)
            for one in self.requests
        ) == sorted(
            (
                self._ids(prompt),
                self.ids(written),
                sorted({*(tags[one] for one in stops if one in tags), *end}),
                tuple(one for one in stops if one not in tags),
            )
            for prompt, written, stops in expected
        )
        assert self.final == self._ids(final)

    def _ids(self, text: str | list[int]) -> list[int]:
        return self.ids(text) if isinstance(text, str) else text

    def prompt(self, before: str, question: str, after: str) -> list[int]:
        """A prompt whose question has no control tokens, whatever it says."""
        literal = self.dialect._tokenizer.encode(question, literal=True)
        assert not set(literal) & set(self.dialect.tongue.ids.values())
        return [*self.ids(before), *literal, *self.ids(after)]


async def transcribe(
    dialect: NativeDialect,
    script: Mapping[str, str | Sequence[int]],
    *capabilities: Capability,
    question: str | Problem = "Why?",
    context: int = 4096,
    **options: Any,
) -> Transcript:
    """Run a scripted model by its own tongue."""
    backend = ScriptedModel(dialect, script, *capabilities)
    model = LoadedModel(name="scripted", dialect=dialect, context=context, backend=backend)
    events: list[Event] = []
    async with Reasoner(model) as reasoner:
        how = SolveOptions(listener=events.append, temperature=0.0, **options)
        solution = await reasoner.solve_with(question, how)
    return Transcript(solution=solution, requests=backend.requests, events=events, dialect=dialect)


# ---- real weights --------------------------------------------------------------------------------

KINDS = {
    "multiverse": "qwen2",
    "parathinker": "qwen2",
    "sprint": "qwen2",
    "ssft": "qwen2",
    "apr": "llama",
}
"""The families' models; the others are Qwen3's."""
NAMES = {
    "apr": "llama-apr_cond10_grpo",
    "sprint": "SPRINT-DeepSeek-R1-Distill-Qwen-7B",
    "pacore": "PaCoRe-8B",
    "parallel-r1-seen": "Parallel-R1-Seen",
    "parallel-r1-unseen": "Parallel-R1-Unseen_Step_200",
}
LOUD = 8.0
"""By how much a control string is likelier than a letter, to a model that writes mostly these."""


def random_model(root: Path, name: str, *, vectors: bool = True, context: int = 4096) -> Path:
    """A tiny random model in a folder, with a family's tokenizer, that likes control strings."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    folder, format = root / NAMES.get(name, name), family(name)
    write_tokenizer(folder, [control.text for control in format.controls])
    dialect = NativeDialect(folder, frozenset(), format.model_copy(update={"tensors": ()}))
    makers = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    }
    make_config, make_model = makers[KINDS.get(name, "qwen3")]
    [end] = dialect.encode(END)
    torch.manual_seed(0)
    config = make_config(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=context,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=None,
    )
    model = make_model(config)
    with torch.no_grad():
        model.lm_head.weight[len(dialect._tokenizer._tokenizer.get_vocab()) :] = 0
        for id in dialect.tongue.ids.values():
            model.lm_head.weight[id] *= LOUD
    model.save_pretrained(folder)
    if format.tensors and vectors:
        file = folder / "model.safetensors"
        tensors = load_file(file)
        for layer in range(2):
            name = format.tensors[0].name.replace("{layer}", str(layer))
            tensors[name] = torch.randn(32, 32) / 8
        save_file(tensors, file, metadata={"format": "pt"})
    return folder


def loose(format: NativeFormat) -> NativeFormat:
    """A tongue that a random model can speak: three branches wherever it asks for a fork."""
    if format.fork.plan.width != "plan":
        return format
    more = {"plan": PlanRule(width="constant", count=3), "requires": (), "forbids": (), "room": 20}
    return format.model_copy(update={"fork": format.fork.model_copy(update=more)})
