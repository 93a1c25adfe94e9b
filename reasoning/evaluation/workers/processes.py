"""An evaluation whose jobs are done by several processes; what they tell is in one store."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Self

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from orchestrator.errors import InvalidValue, ReasonError
from reasoning.evaluation.kept.records import Record
from reasoning.evaluation.kept.store import EvalStore, record_of
from reasoning.evaluation.run import EvalJob, EvalPlan, KeptRecords
from reasoning.evaluation.workers.messages import (
    Failure,
    Heard,
    LoadedWorker,
    Told,
    ToldJob,
    ToldStore,
    WorkerFailed,
    WorkerStart,
)
from reasoning.pool import PoolModel

PROGRAM = ("-m", "reasoning.evaluation.workers.worker")
MOST_DEATHS = 3
"""So many processes may end under a job before it is lost."""
GRACE_S = 5.0
"""How long a process may take to put its model away."""
LONGEST_LINE = 1 << 30


class WorkerProcess:
    """One process, from here."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._in = process.stdin
        self._lines = BufferedByteReceiveStream(process.stdout)
        self.jobs: deque[EvalJob] = deque()

    @classmethod
    async def begin(cls, start: WorkerStart) -> Self:
        """Begin one, whose engine has one thread if nothing else is said."""
        threads = {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, *PROGRAM]
        process = await anyio.open_process(command, stderr=None, env={**threads, **os.environ})
        self = cls(process)
        await self.tell(start)
        return self

    async def tell(self, message: WorkerStart | Told) -> None:
        """Tell it something; where it has ended, that is seen when it is heard."""
        with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._in.send(message.line())

    async def hear(self) -> Heard | None:
        """What it tells next; None where it has ended.

        Raises:
            WorkerFailed: it says why it ends.
        """
        try:
            line = await self._lines.receive_until(b"\n", LONGEST_LINE)
        except (anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError):
            return None
        heard = Heard.model_validate(json.loads(line))
        if heard.failure is not None:
            raise WorkerFailed(heard.failure)
        return heard

    async def loaded(self) -> LoadedWorker:
        """What it has loaded.

        Raises:
            WorkerFailed: it could not.
        """
        heard = await self.hear()
        if heard is not None and heard.loaded is not None:
            return heard.loaded
        what = f"a worker ended while it loaded the model ({await self.ending()})"
        raise WorkerFailed(
            Failure(
                code="WorkerFailed",
                message=f"{what}; fewer --workers need less memory",
                exit_code=1,
            )
        )

    async def ending(self) -> str:
        """How it ended, in words."""
        code = await self._process.wait()
        return f"by signal {-code}" if code < 0 else f"with exit code {code}"

    async def end(self) -> None:
        """Let it put its model away, and end it where it does not."""
        await self.tell(Told(end=True))
        with anyio.move_on_after(GRACE_S):
            await self._process.wait()
        self.kill()
        await self._process.wait()
        await self._process.aclose()

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            self._process.kill()


class EvalWorkers:
    """Processes that do the jobs of a plan, each with a model and a `Reasoner` of its own::

    async with EvalWorkers(plan, count=4, model=PoolModel(model="reason-5m")) as workers:
        with EvalStore(path, EvalHeader(model=workers.loaded.name)) as store:
            store.ask(plan.questions)
            await workers.fill(store)

    A job's seed is its own, so its record is the one that `EvalPlan.fill` would keep.

    Attributes:
        loaded: What the first process has loaded.
    """

    loaded: LoadedWorker

    def __init__(
        self, plan: EvalPlan, *, count: int, model: PoolModel, draft: PoolModel | None = None
    ) -> None:
        """
        Raises:
            InvalidValue: ``count`` is not 1 or more.
        """
        if count < 1:
            raise InvalidValue(f"workers: {count} is too few; give 1 or more")
        self._plan = plan
        self._start = WorkerStart(plan=plan, model=model, draft=draft)
        self._count = count
        self._share = -(-plan.parallel // count)
        self._workers: list[WorkerProcess] = []
        self._waiting: deque[EvalJob] = deque()
        self._deaths: Counter[EvalJob] = Counter()
        self._places = {question.id: place for place, question in enumerate(plan.questions)}

    async def __aenter__(self) -> Self:
        try:
            for _ in range(self._count):
                self._workers.append(await WorkerProcess.begin(self._start))
            self.loaded = await self._workers[0].loaded()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for worker in self._workers:
                    group.start_soon(worker.end)

    async def fill(
        self, store: EvalStore, *, heard: Callable[[Record], None] = lambda _: None
    ) -> None:
        """As `EvalPlan.fill`.

        A process that is killed is begun again, and so are its jobs.  One that several processes
        did not survive is stored as lost.
        """
        self._waiting = deque(self._plan.missing(store.stored))
        kept = KeptRecords(store=store, heard=heard, parallel=self._plan.parallel)
        try:
            async with anyio.create_task_group() as group:
                for place in range(self._count):
                    group.start_soon(self._tend, place, kept)
        finally:
            with anyio.CancelScope(shield=True):
                await self._read_out(kept)

    async def _tend(self, place: int, kept: KeptRecords) -> None:
        """Have one process work, and the one in its place where it ends."""
        if place:
            await self._workers[place].loaded()
        while True:
            where = ToldStore(path=kept.store.path.absolute(), header=kept.store.stored.header)
            worker = self._workers[place]
            await worker.tell(Told(store=where))
            await self._deal(worker)
            while worker.jobs and (message := await worker.hear()) is not None:
                self._keep(worker, message, kept)
                await worker.tell(Told(kept=True))
                await self._deal(worker)
            if not worker.jobs:
                return
            await self._mourn(worker, kept)
            self._workers[place] = await WorkerProcess.begin(self._start)
            await self._workers[place].loaded()

    async def _deal(self, worker: WorkerProcess) -> None:
        """Give a process its share of what waits; a job under which one ended is done alone."""
        while self._waiting and len(worker.jobs) < self._share:
            alone = any(job in self._deaths for job in (self._waiting[0], *worker.jobs))
            if alone and worker.jobs:
                return
            job = self._waiting.popleft()
            worker.jobs.append(job)
            place = self._places[job.question.id]
            await worker.tell(Told(job=ToldJob(question=place, sample=job.sample, arm=job.arm)))

    def _keep(self, worker: WorkerProcess, message: Heard, kept: KeptRecords) -> None:
        record = record_of(message.record)
        assert isinstance(record, Record)
        sample = getattr(record, "sample", 0)
        arm = getattr(record, "arm", None)
        done = (record.question, sample, arm)
        worker.jobs.remove(
            next(job for job in worker.jobs if (job.question.id, job.sample, job.arm) == done)
        )
        kept.add(record)

    async def _mourn(self, worker: WorkerProcess, kept: KeptRecords) -> None:
        """Take back the jobs of a process that has ended."""
        how = await worker.ending()
        for job in reversed(worker.jobs):
            self._deaths[job] += 1
            if self._deaths[job] < MOST_DEATHS:
                self._waiting.appendleft(job)
            else:
                kept.add(self._plan.lost(job, f"its worker ended {how}, {MOST_DEATHS} times"))
        worker.jobs.clear()

    async def _read_out(self, kept: KeptRecords) -> None:
        """Keep what processes have said already, where that is not all there is to do."""
        for worker in self._workers:
            if not worker.jobs:
                continue
            worker.kill()
            with suppress(ReasonError):
                while (message := await worker.hear()) is not None:
                    if message.record is not None:
                        self._keep(worker, message, kept)
