"""The engine: many threads of one model, each a view over shared KV segments, decoded together.

Synchronous and single-threaded; `reasoning.backends.embedded` drives it from async code.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from orchestrator.errors import InvalidValue
from reasoning.engine.decoders.loading import Decoder, free_lanes, load_decoder
from reasoning.engine.pool import Pool, store_tokens
from reasoning.engine.sampling import Sampler, check_biases, confidences, sample
from reasoning.engine.scheduler import ThreadScheduler
from reasoning.engine.segments import SegmentStore
from reasoning.engine.step import ForwardStep
from reasoning.engine.threads import (
    EngineThread,
    SampledToken,
    ScoringThread,
    StepRow,
    ThreadFailure,
    check_paths,
)
from reasoning.values.context import Gang, Segment
from reasoning.values.sampling import Sampling, StopReason

ROWS_A_LANE = 16
"""A lane is worth its start from about so many rows on."""
FILLED_A_STEP = 512
"""At most so many given tokens are computed in one step, so that none takes long."""


class Engine:
    """Decodes threads in batches: `open`, `step` until they stop, `extend` or `close`.

    At most ``slots`` threads run at once; more wait their turn in the order of opening, and so does
    a thread for whose tokens the store of ``store_gib`` has no room.  A large batch is cut into
    ``lanes``, each computed by a thread of its own: they wait for each other without spinning, so
    another busy process does them no harm.
    """

    def __init__(
        self, decoder: Decoder, *, slots: int = 64, lanes: int = 1, store_gib: float = 4.0
    ) -> None:
        self.config = decoder.config
        self.decoder = decoder
        self._lanes = lanes
        self._workers = ThreadPoolExecutor(lanes, thread_name_prefix="lane")
        most = store_tokens(decoder.config, decoder.dtype, store_gib)
        self.pool = Pool(decoder.config, decoder.dtype, most=most, device=decoder.device)
        self.segments = SegmentStore(self.pool)
        self._scheduler = ThreadScheduler(slots)
        self._ids = itertools.count()
        self._claimed = False

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        dtype: torch.dtype = torch.float32,
        lanes: int | None = None,
        store_gib: float = 4.0,
        device: str = "cpu",
    ) -> Engine:
        """Load a model folder (`reasoning.engine.decoders.loading`).

        There are as many ``lanes`` as there are cores for by default, for native models on a CPU.

        Raises:
            InvalidValue: there is no such device.
            ModelUnusable: the folder is missing, broken or of an unsupported kind.
        """
        decoder = load_decoder(folder, dtype, device)
        return cls(decoder, lanes=lanes or free_lanes(decoder), store_gib=store_gib)

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

    def replace(self, decoder: Decoder) -> None:
        """Go on with other weights of the same model; called between two steps.

        Raises:
            InvalidValue: threads are open, whose keys and values are of the old weights, or the
                model has another shape.
        """
        if self.open_threads:
            raise InvalidValue("the engine's threads are open; close them, then replace the model")
        if decoder.config != self.config:
            raise InvalidValue("the model has another shape; load an engine of its own")
        self.decoder = decoder

    @property
    def running(self) -> int:
        """The number of threads that run or wait for a slot; those of a paused gang do neither."""
        return self._scheduler.active

    @property
    def open_threads(self) -> int:
        """The number of threads that are not closed, whether they run or have stopped."""
        return len(self._scheduler.threads)

    @property
    def slots(self) -> int:
        """How many threads run at once at most."""
        return self._scheduler.slots

    @slots.setter
    def slots(self, count: int) -> None:
        self._scheduler.slots = count

    def open(
        self,
        segment: Segment,
        sampling: Sampling,
        *,
        stop: Collection[int] = (),
        limit: int | None = None,
        gang: Gang | None = None,
    ) -> int:
        """Start a thread that writes to ``segment`` and return its id.

        It goes on from the segment's given tokens, or, if there are none, from the last token of
        its context.  ``limit`` bounds its positions.  The threads of a ``gang`` advance
        together: when one stops, all pause until it goes on or is closed.

        Raises:
            InvalidValue: there is nothing to go on from, it does not fit, or the model has no
                identity for a path, or no token that is given a bias.
        """
        check_paths(segment, self.decoder.paths)
        check_biases(sampling, self.config.vocabulary)
        thread = EngineThread(
            id=next(self._ids),
            segment=segment,
            stored=self.segments.stored(segment),
            sampler=Sampler(sampling),
            stop=frozenset(stop),
            limit=min(limit or self.config.context, self.config.context),
            gang=gang,
            most=sampling.max_new_tokens,
        )
        self._check_prompt(thread)
        if thread.sampler.shaped:
            thread.sampler.see(segment.context.tokens + thread.stored.tokens)
        if gang is not None:
            gang.opened += 1
        self._scheduler.add(thread)
        thread.stored.live = True
        return thread.id

    def score(self, segment: Segment) -> int:
        """Read the tokens that a segment was given, all of them; returns the id of who reads.

        `step` then gives each of them with its log-probability, the last with the reason ``stop``.

        Raises:
            InvalidValue: there is no such token, none before them, or they don't fit.
        """
        if not len(segment) or not len(segment.context):
            raise InvalidValue("there is nothing to score; give tokens in a context of some")
        stored = self.segments.stored(segment)
        if stored.used:
            raise InvalidValue("the segment is computed already; score it before it is used")
        thread = ScoringThread(
            id=next(self._ids),
            segment=segment,
            stored=stored,
            sampler=Sampler(Sampling()),
            limit=self.config.context + 1,
        )
        self._check_prompt(thread)
        self._scheduler.add(thread)
        return thread.id

    def _check_prompt(self, thread: EngineThread) -> None:
        if not len(thread.stored.tokens) + len(thread.segment.context):
            raise InvalidValue("the prompt is empty; give at least one token")
        if not self._fits(thread):
            position = self.segments.position(thread.segment, thread.stored)
            raise InvalidValue(
                f"the prompt has {position} tokens and the context is "
                f"{thread.limit}; shorten it or raise --max-tokens"
            )

    def _fits(self, thread: EngineThread, count: int = 0) -> bool:
        """Whether a thread could still write after so many more given tokens."""
        return self.segments.position(thread.segment, thread.stored) + count < thread.limit

    def extend(self, id: int, tokens: Sequence[int]) -> None:
        """Give more tokens to a thread that met one of its stop tokens, and let it go on.

        Raises:
            InvalidValue: the thread has ended, or its context has no room to write after them.
        """
        thread = self._scheduler.threads[id]
        thread.go_on(fits=self._fits(thread, len(tokens)))
        thread.stored.tokens += tokens
        thread.sampler.see(tokens)
        self._scheduler.go_on(thread)

    def resume(self, id: int, segment: Segment) -> None:
        """Let a thread that met one of its stop tokens go on in another segment.

        Raises:
            InvalidValue: the thread has ended, or the segment has no given token or no room.
        """
        check_paths(segment, self.decoder.paths)
        thread = self._scheduler.threads[id]
        stored = self.segments.stored(segment)
        position = self.segments.position(segment, stored)
        thread.go_on(fits=len(segment) > 0 and position < thread.limit)
        thread.segment, thread.stored = segment, stored
        if thread.sampler.shaped:
            thread.sampler.see(segment.context.tokens + stored.tokens)
        self._scheduler.go_on(thread)

    def hold(self, id: int, until: int | None) -> None:
        """Let a thread generate up to ``until`` tokens in all, and then stand still without a slot.

        None lets it write on; unknown ids and threads that have ended are left as they are.
        """
        thread = self._scheduler.threads.get(id)
        if thread is not None:
            self._scheduler.limit(thread, until)

    def close(self, id: int, read: int | None = None) -> None:
        """Drop a thread in any state and free its slot; unknown ids are ignored.

        Its segment stays as long as somebody holds it: the first ``read`` tokens, or all.
        """
        thread = self._scheduler.remove(id)
        if thread is not None and read is not None:
            self.segments.cut(thread.segment, read)

    @torch.inference_mode()
    def step(self) -> list[SampledToken | ThreadFailure]:
        """Advance every thread that can by one token; failures are of threads that can't go on."""
        self.segments.sweep()
        threads = self._scheduler.runnable()
        rows, failures = self.segments.plan(threads, FILLED_A_STEP)
        for failure in failures:
            self._scheduler.fail(failure.thread)
        self._forward([row for row in rows if row.tokens])
        written = self._emit([row for row in rows if row.thread is not None and not row.scored])
        scored = (one for row in rows if row.scored for one in self._scored(row))
        return [*failures, *written, *scored]

    def _forward(self, rows: list[StepRow]) -> None:
        """Feed rows and keep their last logits with their segments."""
        if not rows:
            return
        lanes = min(self._lanes, len(rows) // ROWS_A_LANE)
        if lanes > 1 and not self.segments.depend(rows):
            cuts = [len(rows) * lane // lanes for lane in range(lanes + 1)]
            steps = [self.segments.tables(rows[a:b]) for a, b in itertools.pairwise(cuts)]
            logits = torch.cat(list(self._workers.map(self._feed, steps)))
        else:
            logits = self._feed(self.segments.tables(rows))
        self.segments.record(rows, logits)

    @torch.inference_mode()
    def _feed(self, step: ForwardStep) -> Tensor:
        """The logits of some rows; several calls may run at once, each on rows of its own."""
        return self.decoder(step, self.pool)

    def _scored(self, row: StepRow) -> list[SampledToken]:
        """The tokens that were read of a segment in this step, as if they had been written."""
        reader, segment = row.thread, row.segment
        assert isinstance(reader, ScoringThread)
        assert row.scores is not None
        before = reader.before
        if before is None:
            before = self.segments.stored(segment.context.entries[-1].segment).logits
        assert before is not None
        logits = torch.cat([before[None], row.scores[:-1]])
        chosen = logits.gather(-1, torch.tensor(row.tokens, device=logits.device)[:, None])[:, 0]
        logprobs = (chosen - torch.logsumexp(logits, -1)).tolist()
        reader.before = row.scores[-1].clone()
        out = [
            SampledToken(reader.id, token, logprob, None)
            for token, logprob in zip(row.tokens, logprobs, strict=True)
        ]
        if reader.stored.used == len(reader.stored.tokens):
            self._scheduler.end(reader)
            out[-1] = out[-1]._replace(reason="stop")
        return out

    def _emit(self, rows: list[StepRow]) -> list[SampledToken]:
        """The next token of each row's thread."""
        if not rows:
            return []
        threads = [row.thread for row in rows if row.thread is not None]
        logits = torch.stack([self.segments.logits(row) for row in rows])
        out = []
        samplers = [thread.sampler for thread in threads]
        sampled = zip(
            threads, *sample(logits, samplers), confidences(logits, samplers), strict=True
        )
        for thread, token, logprob, confidence in sampled:
            thread.stored.tokens.append(token)
            thread.written += 1
            reason: StopReason | None = None
            if token in thread.stop or token in self.config.eos:
                reason = "stop"
            elif thread.exhausted or not self._fits(thread):
                reason = "length"
            if reason is not None:
                self._scheduler.end(thread)
                thread.stopped = token in thread.stop
            elif thread.spent:
                self._scheduler.hold(thread)
            out.append(SampledToken(thread.id, token, logprob, reason, confidence))
        return out
