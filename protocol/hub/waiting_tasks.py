"""Tasks that have not ended, and the lists in which they wait for a worker."""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from protocol.hub.connected_workers import ConnectedWorker, Demand
from protocol.hub.task_handles import TaskHandle
from protocol.hub.timers import Timer, TimerQueue
from protocol.wire.messages import Kind, Payload, TaskMessage

SAMPLE = 16
"""Of many able workers, so many are looked at: the best of a few is nearly the best of all."""

PATIENCE_GRAIN_S = 0.05
"""Tasks whose patience ends closer together than this are given up together."""

SCANNED_PER_S = 20_000
"""Waiting tasks that are looked at, at most, for whether their patience has ended."""

MOST_LISTS = 64
"""With more lists, those in which nothing waits are forgotten."""

_rng = random.Random(0)


@dataclass(slots=True, eq=False, kw_only=True)
class LiveTask:
    """A task that has not ended, as the dispatcher moves it.

    Attributes:
        handle: What its submitter holds.
        demand: What it asks of a worker.
        payload: What stands for its arguments, if they are long, and `data` their bytes.
        deadline: When it must have ended, by the hub's clock.
        queued_at: Since when it waits.
        waiting: The list in which it waits, if it does.
        written: How many tokens a thread has written on its present worker.
        stopped: Whether a thread waits to be given more.
        paused: Whether it stands still, for that or because it is held, and takes no slot.
        lost: The workers that were lost under it.
        killed: Those of them that have ended or gone silent.
        given: The first fence under which each worker had it.
        timer: Ends it at its deadline, or when a cancelled one is not over.
    """

    handle: TaskHandle
    demand: Demand
    payload: Payload | None
    data: bytes
    deadline: float
    queued_at: float = 0.0
    waiting: WaitingTasks | None = None
    written: int = 0
    stopped: bool = False
    paused: bool = False
    lost: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    given: dict[str, int] = field(default_factory=dict)
    timer: Timer | None = None

    @property
    def id(self) -> str:
        """The task's id."""
        return self.handle.id

    def send_to(self, worker: ConnectedWorker, left_s: float, proof: str) -> None:
        """Send it to the worker that it is assigned to, before it its long arguments.

        Arguments that the worker has are not sent again.

        Raises:
            BadMessage: it is too long.
        """
        request, transport = self.handle.request, worker.transport
        arguments: str | Payload = request.arguments
        if self.payload is not None and not transport.inline:
            arguments = self.payload
            if self.payload.sha256 not in worker.data:
                worker.data.add(self.payload.sha256)
                transport.provide(self.payload, self.data)
        transport.send(
            TaskMessage(
                id=self.id,
                fence=worker.assigned[self.id],
                attempt=self.handle.attempts,
                kind=request.kind,
                name=request.name,
                arguments=arguments,
                deadline_s=None if left_s == math.inf else max(0.0, left_s),
                budget=request.budget,
                inputs=tuple(self.handle.inputs),
                until=self.handle.until if worker.holds(self.demand) else None,
                proof=proof,
            )
        )


class WaitingTasks:
    """Tasks of one demand, in order of arrival, and the workers that are able to run them.

    Attributes:
        unable_since: Since when no connected worker is able; None while one is.
        check_at: When somebody looks next whether a task has waited too long for an able worker.
    """

    __slots__ = ("_tasks", "check_at", "demand", "timer", "unable_since", "workers")

    def __init__(self, demand: Demand, now: float) -> None:
        self.demand = demand
        self.workers: list[ConnectedWorker] = []
        self.unable_since: float | None = now
        self.check_at = math.inf
        self.timer: Timer | None = None
        self._tasks: OrderedDict[str, LiveTask] = OrderedDict()

    def add(self, task: LiveTask, *, first: bool = False) -> None:
        """Let a task wait, behind the others or before them."""
        self._tasks[task.id] = task
        task.waiting = self
        if first:
            self._tasks.move_to_end(task.id, last=False)

    def discard(self, task: LiveTask) -> None:
        """Let a task wait no longer."""
        del self._tasks[task.id]
        task.waiting = None

    def next(self) -> tuple[LiveTask, ConnectedWorker] | None:
        """Take out the first task and the worker that should run it; None if there is none."""
        task = next(iter(self._tasks.values()), None)
        worker = None if task is None else self._best(task)
        if task is None or worker is None:
            return None
        self.discard(task)
        return task, worker

    def __len__(self) -> int:
        return len(self._tasks)

    def impatient(self, now: float) -> tuple[list[LiveTask], float]:
        """Tasks that have waited too long for an able worker, and when the next will have."""
        self.check_at = next_due = math.inf
        late: list[LiveTask] = []
        since = self.unable_since
        if since is None:
            return late, next_due
        for task in self._tasks.values():
            due = max(since, task.queued_at) + task.handle.request.patience_s
            if due <= now:
                late.append(task)
            else:
                next_due = min(next_due, due)
        return late, next_due

    def _best(self, task: LiveTask) -> ConnectedWorker | None:
        """The worker that should run the task now, if one can: the one that is soonest done.

        Those are left out than which a worker brings more that works at the task's problem already.
        """
        problem = task.handle.request.problem
        able = [
            worker
            for worker in self._candidates(task.payload, problem)
            if worker.open and worker.load.fits(self.demand)
        ]
        homes = [
            worker
            for worker in able
            if problem and worker.problems[problem] and worker.id not in task.lost
        ]
        homes = [worker for worker in homes if worker.keeps(self.demand, worker)]
        chosen = (
            worker
            for worker in able
            if worker in homes or not any(home.keeps(self.demand, worker) for home in homes)
        )
        return min(chosen, key=partial(self._cost, task), default=None)

    def _cost(self, task: LiveTask, worker: ConnectedWorker) -> float:
        """How late a worker would be done with a task, beside others."""
        payload, request = task.payload, task.handle.request
        missing = 0 if payload is None or payload.sha256 in worker.data else payload.size
        begun = request.problem and worker.problems[request.problem]
        unread = 0 if begun else len(request.arguments)
        cost = worker.load.cost(self.demand, missing, unread) * self._slowness(worker)
        return cost + (worker.id in task.lost)

    def _slowness(self, worker: ConnectedWorker) -> float:
        """How many times as fast as this worker the fastest is, of those that threads know."""
        if self.demand.kind != "thread":
            return 1.0
        name = self.demand.name
        own = worker.curve(name)
        return max(1.0, *(own.behind(one.curve(name)) for one in self.workers[:SAMPLE]))

    def _candidates(self, payload: Payload | None, problem: str) -> Iterator[ConnectedWorker]:
        """Workers to look at; those that have the payload or the problem are among them."""
        count = len(self.workers)
        if count <= 2 * SAMPLE:
            yield from self.workers
            return
        start = _rng.randrange(count)
        found = 0
        for index in range(count):
            worker = self.workers[(start + index) % count]
            if worker.open and worker.load.fits(self.demand):
                found += 1
                yield worker
                if found == SAMPLE:
                    break
        if payload is not None:
            yield from (worker for worker in self.workers if payload.sha256 in worker.data)
        if problem:
            yield from (worker for worker in self.workers if worker.problems[problem])


class WaitingLists:
    """The lists of waiting tasks: one for each demand, and those that each worker can serve.

    A task that no connected worker is able to run is given up when its patience ends.
    """

    def __init__(
        self,
        timers: TimerQueue,
        give_up: Callable[[LiveTask], None],
    ) -> None:
        """Keep lists; ``give_up`` ends a task that nobody could run in time."""
        self._timers = timers
        self._give_up = give_up
        self._lists: dict[Demand, WaitingTasks] = {}
        self._prune_at = MOST_LISTS
        self._served: dict[str, dict[Demand, WaitingTasks]] = {}
        self._offering: dict[tuple[Kind, str], dict[str, ConnectedWorker]] = {}

    def of(self, demand: Demand) -> WaitingTasks:
        """The list of a demand, which is made if there is none."""
        found = self._lists.get(demand)
        if found is None:
            self._prune()
            found = self._lists[demand] = WaitingTasks(demand, self._timers.clock())
            for worker in self._offering.get((demand.kind, demand.name), {}).values():
                self._try(worker, found)
        return found

    def add(self, task: LiveTask, *, first: bool = False) -> None:
        """Let a task wait, behind the others of its demand or before them."""
        task.queued_at = self._timers.clock()
        waiting = self.of(task.demand)
        waiting.add(task, first=first)
        if waiting.unable_since is not None:
            self._check_patience_after(waiting, task.handle.request.patience_s)

    def discard(self, task: LiveTask) -> None:
        """Let a task wait no longer."""
        waiting = task.waiting
        if waiting is not None:
            waiting.discard(task)
            if not waiting and len(self._lists) > MOST_LISTS:
                self._drop(waiting)

    def nearest(self, demand: Demand) -> tuple[str, list[str]]:
        """A worker that offers what is asked for by name, and why it can't run it all the same."""
        offering = self._offering.get((demand.kind, demand.name), {})
        found = [(id, worker.lacks(demand)) for id, worker in offering.items()]
        return min(found, key=lambda one: len(one[1]), default=("", []))

    def served_by(self, worker: ConnectedWorker) -> Sequence[WaitingTasks]:
        """The lists in which tasks wait that a worker can run."""
        return [waiting for waiting in self._served.get(worker.id, {}).values() if waiting]

    def join(self, worker: ConnectedWorker) -> None:
        """Let a worker serve the lists that it is able to."""
        for offer in worker.offers:
            self._offering.setdefault(offer, {})[worker.id] = worker
        for waiting in self._lists.values():
            self._try(worker, waiting)

    def leave(self, worker: ConnectedWorker) -> None:
        """Forget a worker."""
        for offer in worker.offers:
            self._offering[offer].pop(worker.id)
            if not self._offering[offer]:
                del self._offering[offer]
        for waiting in self._served.pop(worker.id, {}).values():
            waiting.workers.remove(worker)
            if not waiting.workers:
                waiting.unable_since = self._timers.clock()
                self._check_patience(waiting)

    def _try(self, worker: ConnectedWorker, waiting: WaitingTasks) -> None:
        if worker.able(waiting.demand):
            waiting.workers.append(worker)
            waiting.unable_since = None
            self._served.setdefault(worker.id, {})[waiting.demand] = waiting

    def _check_patience_after(self, waiting: WaitingTasks, seconds: float) -> None:
        due = self._timers.clock() + seconds
        if due < waiting.check_at:
            waiting.check_at = due
            if waiting.timer is not None:
                waiting.timer.cancel()
            waiting.timer = self._timers.after(seconds, partial(self._check_patience, waiting))

    def _check_patience(self, waiting: WaitingTasks) -> None:
        """Give up what has waited too long for an able worker; look again when more may have."""
        now = self._timers.clock()
        late, due = waiting.impatient(now)
        for task in late:
            self._give_up(task)
        if due < math.inf:
            pause = max(PATIENCE_GRAIN_S, len(waiting) / SCANNED_PER_S)
            self._check_patience_after(waiting, max(pause, due - now))

    def _prune(self) -> None:
        """Forget lists in which nothing waits, when there are twice as many as were needed."""
        if len(self._lists) >= self._prune_at:
            for waiting in [one for one in self._lists.values() if not one]:
                self._drop(waiting)
            self._prune_at = max(MOST_LISTS, 2 * len(self._lists))

    def _drop(self, waiting: WaitingTasks) -> None:
        del self._lists[waiting.demand]
        for worker in waiting.workers:
            del self._served[worker.id][waiting.demand]
        if waiting.timer is not None:
            waiting.timer.cancel()
