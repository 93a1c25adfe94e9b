"""One process of an evaluation: ``python -m reasoning.evaluation.workers.worker``."""

from __future__ import annotations

import os
import signal
import sys
from collections import deque

import anyio

from reasoning.evaluation.kept.records import Record, SampleRecord, versions_of
from reasoning.evaluation.kept.store import EvalStore
from reasoning.evaluation.run import EvalJob
from reasoning.evaluation.workers.messages import (
    Failure,
    Heard,
    LoadedWorker,
    Told,
    ToldJob,
    ToldStore,
    WorkerStart,
)
from reasoning.models.loaded import LoadedModel
from reasoning.solver import Reasoner


class EvalWorker:
    """Does the jobs that it is told, as they come, and answers by ``out``, a file descriptor."""

    def __init__(self, start: WorkerStart, out: int) -> None:
        self._start = start
        self._out = out
        self._unkept: deque[Record] = deque()
        self._store: ToldStore | None = None

    def run(self) -> None:
        """Load the model, and work until there is no more to do or nobody who tells it."""
        try:
            model = self._start.model.load()
            draft = None if self._start.draft is None else self._start.draft.load()
            self._start.plan.check(model, draft)
            self._say(Heard(loaded=LoadedWorker(name=model.name, versions=versions_of(model))))
            anyio.run(self._work, model, draft)
        except Exception as error:  # told to the evaluation, which ends by it
            self._say(Heard(failure=Failure.of(error)))

    async def _work(self, model: LoadedModel, draft: LoadedModel | None) -> None:
        async with Reasoner(model, draft=draft) as reasoner, anyio.create_task_group() as group:
            while True:
                line = await anyio.to_thread.run_sync(
                    sys.stdin.buffer.readline, abandon_on_cancel=True
                )
                if not line:
                    self._keep_alone()
                told = Told.model_validate_json(line)
                if told.end:
                    break
                if told.kept:
                    self._unkept.popleft()
                self._store = told.store or self._store
                if told.job is not None:
                    group.start_soon(self._do, reasoner, told.job)
            group.cancel_scope.cancel()

    async def _do(self, reasoner: Reasoner, told: ToldJob) -> None:
        plan = self._start.plan
        job = EvalJob(plan.questions[told.question], told.sample, told.arm)
        record = await plan.done(reasoner, job)
        self._unkept.append(record)
        self._say(Heard(record=record.model_dump(mode="json")))

    def _say(self, message: Heard) -> None:
        left = message.line()
        try:
            while left:
                left = left[os.write(self._out, left) :]
        except BrokenPipeError:
            self._keep_alone()

    def _keep_alone(self) -> None:
        """The evaluation was killed: keep what it has not kept any more, and leave."""
        if self._unkept and self._store is not None:
            with EvalStore(self._store.path, self._store.header) as store:
                for record in self._unkept:
                    if not _is_in(store, record):
                        store.add(record)
        os._exit(1)


def _is_in(store: EvalStore, record: Record) -> bool:
    if isinstance(record, SampleRecord):
        return store.stored.has_sample(record.question, record.sample)
    return store.stored.has_run(record.arm, record.question)


def main() -> None:
    """Work for the process that holds the pipes.

    Ctrl-C is for that one; and what a library prints is no message.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.dup(1)
    os.dup2(2, 1)
    EvalWorker(WorkerStart.parse(sys.stdin.buffer.readline()), out).run()


if __name__ == "__main__":
    main()
