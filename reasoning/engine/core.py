"""The engine: many threads of one model, each a view over KV segments, decoded in one batch.

Synchronous and single-threaded; `reasoning.backends.embedded` drives it from async code.
"""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from orchestrator.errors import InvalidValue
from reasoning.engine.attention import Attend, Extend, Prefill, Shared
from reasoning.engine.config import ModelConfig, read_config
from reasoning.engine.llama import NativeDecoder
from reasoning.engine.pool import Pool, Segment
from reasoning.engine.sampling import Sampler, sample
from reasoning.sampling import Sampling, StopReason

ROWS_A_LANE = 16
"""A lane is worth its start from about so many rows on."""
COPIED_PROMPT = 64
"""Prompts up to this many tokens are copied into each thread's row after being computed once;
longer ones are shared by reference, which costs a second attention call per layer."""


def free_cores() -> int:
    """How often this process could run torch's own threads beside each other."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // torch.get_num_threads())


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
    length: int
    """Tokens so far, of which the last may not have its keys and values yet."""
    pending: list[int] = field(default_factory=list)
    """Tokens that the next step feeds; empty before the first sample."""
    row: int | None = None
    """Its slab row while it runs."""
    shared: Segment | None = None
    """Its prompt, where that is shared by reference."""
    parked: Segment | None = None
    """Its own keys and values while it is stopped and may go on."""


class Engine:
    """Decodes threads in batches: `open`, `step` until they stop, `extend` or `close`.

    At most ``slots`` threads run at once; more wait their turn in the order of opening.  A large
    batch is cut into ``lanes``, each computed by a thread of its own: they wait for each other
    without spinning, so another busy process does them no harm.
    """

    def __init__(self, decoder: Decoder, *, slots: int = 64, lanes: int = 1) -> None:
        self.config = decoder.config
        self._lanes = lanes
        self._workers = ThreadPoolExecutor(lanes, thread_name_prefix="lane")
        self.slots = slots
        self._decoder = decoder
        self._pool = Pool(decoder.config, decoder.dtype)
        self._threads: dict[int, _Thread] = {}
        self._rows: list[_Thread] = []
        """Running threads, in the order of their slab rows."""
        self._waiting: dict[int, _Thread] = {}
        self._prefixes: dict[tuple[int, ...], _Prefix] = {}
        self._next_id = 0
        self._claimed = False

    @classmethod
    def load(
        cls, folder: Path, *, dtype: torch.dtype = torch.float32, lanes: int | None = None
    ) -> Engine:
        """Load a model folder: natively where that is exact, else through transformers.

        ``lanes`` is for native models; as many as there are cores for by default.

        Raises:
            ModelUnusable: the folder is missing, broken or of an unsupported kind.
        """
        config = read_config(folder)
        if config.native:
            return cls(NativeDecoder.load(folder, config, dtype), lanes=lanes or free_cores())
        from reasoning.engine.hf import TransformersDecoder

        return cls(TransformersDecoder.load(folder, config, dtype))

    def claim(self) -> None:
        """Take the engine for one driver, until `release`.

        Raises:
            InvalidValue: it has one already.
        """
        if self._claimed:
            raise InvalidValue("the engine is in use; share one Reasoner, or load the model again")
        self._claimed = True

    def release(self) -> None:
        """Give the engine back."""
        self._claimed = False

    @property
    def running(self) -> int:
        """The number of threads that run or wait for a slot."""
        return len(self._rows) + len(self._waiting)

    @property
    def open_threads(self) -> int:
        """The number of threads that are not closed, whether they run or have stopped."""
        return len(self._threads)

    @property
    def free_slots(self) -> int:
        """How many more threads could run at once."""
        return self.slots - len(self._rows)

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
            stop=frozenset(stop),
            limit=limit,
            length=len(key),
        )
        self._next_id += 1
        self._threads[thread.id] = self._waiting[thread.id] = thread
        return thread.id

    def extend(self, id: int, tokens: Sequence[int]) -> None:
        """Append given tokens to a thread that met one of its stop tokens, and let it go on.

        Raises:
            InvalidValue: the thread has ended, or its context has no room to write after them.
        """
        thread = self._threads[id]
        if thread.parked is None:
            raise InvalidValue("the thread has not stopped at a stop token; it can't be extended")
        if thread.length + len(tokens) >= thread.limit:
            raise InvalidValue(f"the thread's context of {thread.limit} tokens is full")
        thread.pending += tokens
        thread.length += len(tokens)
        self._waiting[id] = thread

    @torch.inference_mode()
    def close(self, id: int) -> None:
        """Drop a thread in any state and free its slot; unknown ids are ignored."""
        thread = self._threads.pop(id, None)
        if thread is None:
            return
        self._waiting.pop(id, None)
        self._vacate(thread)
        thread.prefix.viewers -= 1
        if not thread.prefix.viewers:
            del self._prefixes[thread.prefix.tokens]

    @torch.inference_mode()
    def step(self) -> list[Token]:
        """Advance every running thread by one token."""
        self._admit()
        if not self._rows:
            return []
        self._prefill()
        groups: dict[int, list[_Thread]] = defaultdict(list)
        for thread in self._rows:
            groups[len(thread.pending)].append(thread)
        # Threads fresh on a prefix sample from its logits and feed nothing in this step.
        order = groups.pop(0, [])
        logits = [thread.prefix.logits for thread in order if thread.prefix.logits is not None]
        for group in groups.values():
            order = order + group
            logits.append(self._forward(group))
        return self._emit(order, torch.cat(logits))

    def _admit(self) -> None:
        """Give free slots to waiting threads; the new rows follow those that decode."""
        while self._waiting and len(self._rows) < self.slots:
            thread = self._waiting.pop(next(iter(self._waiting)))
            thread.row = len(self._rows)
            self._rows.append(thread)
            self._pool.reserve(rows=len(self._rows), capacity=1)
            self._pool.used[thread.row] = 0
            if thread.parked is not None:
                self._pool.write(thread.row, thread.parked)
                thread.parked = None

    def _vacate(self, thread: _Thread) -> None:
        """Free a thread's row; the last row moves into the gap."""
        if thread.row is None:
            return
        last = self._rows.pop()
        if last is not thread:
            self._pool.move(len(self._rows), thread.row)
            last.row = thread.row
            self._rows[thread.row] = last
        thread.row = None

    def _emit(self, threads: list[_Thread], logits: Tensor) -> list[Token]:
        ids, logprobs = sample(logits, [thread.sampler for thread in threads])
        out = []
        for thread, token, logprob in zip(threads, ids, logprobs, strict=True):
            thread.pending = [token]
            thread.length += 1
            reason: StopReason | None = None
            if token in thread.stop or token in self.config.eos:
                reason = "stop"
            elif thread.length >= thread.limit:
                reason = "length"
            if reason is not None:
                if token in thread.stop and thread.row is not None:
                    thread.parked = self._pool.read(thread.row)
                self._vacate(thread)
            out.append(Token(thread.id, token, logprob, reason))
        return out

    def _forward(self, group: list[_Thread]) -> Tensor:
        """Feed each thread its pending tokens, equally many in one group."""
        length = len(group[0].pending)
        rows = [thread.row for thread in group if thread.row is not None]
        used = self._pool.used
        self._pool.reserve(rows=1, capacity=max(used[row] for row in rows) + length)
        lanes = min(self._lanes, len(group) // ROWS_A_LANE)
        if lanes < 2:
            logits = self._feed(group)
        else:
            cuts = [len(group) * lane // lanes for lane in range(lanes + 1)]
            parts = [group[a:b] for a, b in itertools.pairwise(cuts)]
            logits = torch.cat(list(self._workers.map(self._feed, parts)))
        for row in rows:
            used[row] += length
        return logits

    @torch.inference_mode()
    def _feed(self, group: list[_Thread]) -> Tensor:
        """The logits of some rows; several calls may run at once, each on rows of its own."""
        length = len(group[0].pending)
        starts = [thread.length - length for thread in group]
        rows = [thread.row for thread in group if thread.row is not None]
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
        return self._decoder(tokens, positions, attend)

    def _prefill(self) -> None:
        """Compute prefixes not computed yet, those of one length together; attach their threads."""
        fresh = [thread for thread in self._rows if not thread.pending]
        groups: dict[int, dict[int, _Prefix]] = defaultdict(dict)
        for thread in fresh:
            if thread.prefix.segment is None:
                groups[len(thread.prefix.tokens)][id(thread.prefix)] = thread.prefix
        for length, group in groups.items():
            prefixes = list(group.values())
            attend = Prefill()
            tokens = torch.tensor([prefix.tokens for prefix in prefixes])
            positions = torch.arange(length).expand(len(prefixes), -1)
            logits = self._decoder(tokens, positions, attend)
            for row, prefix in enumerate(prefixes):
                prefix.segment = attend.segment(row)
                prefix.logits = logits[row : row + 1]
        for thread in fresh:
            if thread.prefix.segment is not None and thread.row is not None:
                self._attach(thread, thread.row, thread.prefix.segment)

    def _attach(self, thread: _Thread, row: int, segment: Segment) -> None:
        if len(segment) > COPIED_PROMPT:
            thread.shared = segment
        else:
            self._pool.write(row, segment)
