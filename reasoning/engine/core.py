"""The engine: many threads of one model, each a view over KV segments, decoded in one batch.

Synchronous and single-threaded; `reasoning.backends.embedded` drives it from async code.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from orchestrator.errors import InvalidValue
from reasoning.engine.attention import Attend, Extend, Prefill, Shared
from reasoning.engine.config import ModelConfig, read_config
from reasoning.engine.llama import NativeDecoder, load_weights
from reasoning.engine.pool import Pool, Segment
from reasoning.engine.sampling import Sampler, sample
from reasoning.sampling import Sampling, StopReason

COPIED_PROMPT = 64
"""Prompts up to this many tokens are copied into each thread's row after being computed once;
longer ones are shared by reference, which costs a second attention call per layer."""


class Decoder(Protocol):
    """A model: tokens and positions in, logits of each row's last position out."""

    config: ModelConfig
    dtype: torch.dtype

    def __call__(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor: ...


class Token(NamedTuple):
    """One generated token; ``reason`` is set on the last one before its thread stops."""

    thread: int
    token: int
    logprob: float
    reason: StopReason | None


class _Prefix:
    """A prompt that is computed once, for all threads that open on it meanwhile."""

    def __init__(self, tokens: tuple[int, ...]) -> None:
        self.tokens = tokens
        self.viewers = 0
        self.segment: Segment | None = None
        self.logits: Tensor | None = None


@dataclass(eq=False, kw_only=True)
class _Thread:
    id: int
    prefix: _Prefix
    sampler: Sampler
    stop: frozenset[int]
    limit: int
    """The context: prompt, appended and generated tokens together."""
    row: int = -1
    length: int = 0
    """Tokens so far, of which the last may not have its keys and values yet."""
    pending: list[int]
    """Tokens that the next step feeds; empty before the first sample."""
    running: bool = True
    shared: Segment | None = None


class Engine:
    """Decodes threads in batches: `open`, `step` until they stop, `extend` or `close`."""

    def __init__(self, decoder: Decoder) -> None:
        self.config = decoder.config
        self._decoder = decoder
        self._pool = Pool(decoder.config, decoder.dtype)
        self._threads: dict[int, _Thread] = {}
        self._rows: list[_Thread] = []
        """Threads in the order of their pool rows: running ones first."""
        self._running = 0
        self._prefixes: dict[tuple[int, ...], _Prefix] = {}
        self._next_id = 0
        self.prefilled = 0
        """Prompt and appended tokens computed; one that several threads share counts once."""

    @classmethod
    def load(cls, folder: Path, *, dtype: torch.dtype = torch.float32) -> Engine:
        """Load a model folder: natively where that is exact, else through transformers.

        Raises:
            ModelUnusable: the folder is missing, broken or of an unsupported kind.
        """
        config = read_config(folder)
        if config.native:
            return cls(NativeDecoder.load(folder, config, dtype))
        from reasoning.engine.hf import TransformersDecoder

        return cls(TransformersDecoder.load(folder, config, dtype))

    @property
    def running(self) -> int:
        """The number of threads that the next step advances."""
        return self._running

    @property
    def open_threads(self) -> int:
        """The number of threads that hold a slot: running or stopped, but not closed."""
        return len(self._threads)

    @torch.inference_mode()
    def open(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        stop: Collection[int] = (),
        limit: int | None = None,
    ) -> int:
        """Start a thread on a prompt and return its id.

        Threads opened on equal prompts share the prompt's computation and, if it is long, its
        keys and values.  ``limit`` bounds the thread's context, prompt included.

        Raises:
            InvalidValue: the prompt is empty or does not fit.
        """
        limit = min(limit or self.config.context, self.config.context)
        if not prompt:
            raise InvalidValue("the prompt is empty; give at least one token")
        if len(prompt) >= limit:
            raise InvalidValue(
                f"the prompt has {len(prompt)} tokens and the context is {limit}; "
                "shorten it or raise --max-tokens"
            )
        key = tuple(prompt)
        prefix = self._prefixes.setdefault(key, _Prefix(key))
        prefix.viewers += 1
        thread = _Thread(
            id=self._next_id,
            prefix=prefix,
            sampler=Sampler(sampling),
            stop=frozenset(stop) | self.config.eos,
            limit=limit,
            length=len(key),
            pending=[],
        )
        self._next_id += 1
        self._threads[thread.id] = thread
        self._pool.reserve(rows=len(self._rows) + 1, capacity=1)
        thread.row = len(self._rows)
        self._rows.append(thread)
        self._pool.used[thread.row] = 0
        self._start(thread)
        return thread.id

    @torch.inference_mode()
    def extend(self, id: int, tokens: Sequence[int]) -> None:
        """Append given tokens to a stopped thread and let it go on.

        Raises:
            InvalidValue: the context has no room left to generate after them.
        """
        thread = self._threads[id]
        if thread.length + len(tokens) >= thread.limit:
            raise InvalidValue(f"the thread's context of {thread.limit} tokens is full")
        thread.pending += tokens
        thread.length += len(tokens)
        self.prefilled += len(tokens)
        self._start(thread)

    @torch.inference_mode()
    def close(self, id: int) -> None:
        """Drop a thread in any state and free its slot; unknown ids are ignored."""
        thread = self._threads.pop(id, None)
        if thread is None:
            return
        self._stop(thread)
        self._exchange(thread.row, len(self._rows) - 1)
        self._rows.pop()
        self._pool.used[thread.row] = 0
        thread.prefix.viewers -= 1
        if not thread.prefix.viewers:
            del self._prefixes[thread.prefix.tokens]

    @torch.inference_mode()
    def step(self) -> list[Token]:
        """Advance every running thread by one token."""
        if not self._running:
            return []
        threads = self._rows[: self._running]
        self._prefill(threads)
        groups: dict[int, list[_Thread]] = defaultdict(list)
        for thread in threads:
            groups[len(thread.pending)].append(thread)
        # Threads fresh on a prefix sample from its logits and feed nothing in this step.
        order = groups.pop(0, [])
        logits = [thread.prefix.logits for thread in order if thread.prefix.logits is not None]
        for group in groups.values():
            order = order + group
            logits.append(self._forward(group))
        return self._emit(order, torch.cat(logits))

    def _emit(self, threads: list[_Thread], logits: Tensor) -> list[Token]:
        ids, logprobs = sample(logits, [thread.sampler for thread in threads])
        out = []
        for thread, token, logprob in zip(threads, ids, logprobs, strict=True):
            thread.pending = [token]
            thread.length += 1
            reason: StopReason | None = None
            if token in thread.stop:
                reason = "stop"
            elif thread.length >= thread.limit:
                reason = "length"
            if reason:
                self._stop(thread)
            out.append(Token(thread.id, token, logprob, reason))
        return out

    def _forward(self, group: list[_Thread]) -> Tensor:
        """Feed each thread its pending tokens, equally many in one group."""
        length = len(group[0].pending)
        starts = [thread.length - length for thread in group]
        rows = [thread.row for thread in group]
        used = self._pool.used
        self._pool.reserve(rows=1, capacity=max(used[row] for row in rows) + length)
        viewers: dict[int, list[int]] = defaultdict(list)
        segments: dict[int, Segment] = {}
        for index, thread in enumerate(group):
            if thread.shared is not None:
                segments[id(thread.shared)] = thread.shared
                viewers[id(thread.shared)].append(index)
        shared = [Shared(segments[key], torch.tensor(index)) for key, index in viewers.items()]
        attend = Extend(self._pool, rows, length, shared)
        tokens = torch.tensor([thread.pending for thread in group])
        positions = torch.tensor(starts)[:, None] + torch.arange(length)
        logits = self._decoder(tokens, positions, attend)
        for row in rows:
            used[row] += length
        return logits

    def _prefill(self, threads: list[_Thread]) -> None:
        """Compute prefixes not computed yet, those of one length together; attach their threads."""
        groups: dict[int, dict[int, _Prefix]] = defaultdict(dict)
        for thread in threads:
            if not thread.pending and thread.prefix.segment is None:
                groups[len(thread.prefix.tokens)][id(thread.prefix)] = thread.prefix
        for length, group in groups.items():
            prefixes = list(group.values())
            attend = Prefill()
            tokens = torch.tensor([prefix.tokens for prefix in prefixes])
            positions = torch.arange(length).expand(len(prefixes), -1)
            logits = self._decoder(tokens, positions, attend)
            self.prefilled += tokens.numel()
            for row, prefix in enumerate(prefixes):
                prefix.segment = attend.segment(row, prefix.tokens)
                prefix.logits = logits[row : row + 1]
        for thread in threads:
            if not thread.pending and thread.prefix.segment is not None:
                self._attach(thread, thread.prefix.segment)

    def _attach(self, thread: _Thread, segment: Segment) -> None:
        if len(segment) > COPIED_PROMPT:
            thread.shared = segment
        else:
            self._pool.reserve(rows=1, capacity=len(segment) + 1)
            self._pool.write(thread.row, segment)

    def _start(self, thread: _Thread) -> None:
        thread.running = True
        self._exchange(thread.row, self._running)
        self._running += 1

    def _stop(self, thread: _Thread) -> None:
        if thread.row < self._running:
            self._running -= 1
            self._exchange(thread.row, self._running)
        thread.running = False

    def _exchange(self, a: int, b: int) -> None:
        if a == b:
            return
        self._pool.swap(a, b)
        first, second = self._rows[a], self._rows[b]
        first.row, second.row = b, a
        self._rows[a], self._rows[b] = second, first
