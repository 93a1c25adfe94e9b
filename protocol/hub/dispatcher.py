"""Which task is where: who is connected, what waits, what is assigned, what has ended.  No I/O.

A task belongs to at most one worker, under a fence that grows with each assignment.  What comes
under another fence, or from another worker, is ignored.  So a task has one result, whoever runs it
how often.  Workers and tasks stand in tables by id; they do not hold one another.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import logging
import math
from collections.abc import Sequence
from functools import partial

from orchestrator.errors import InvalidValue
from protocol.errors import BadMessage, Congested
from protocol.hub.connected_workers import ConnectedWorker, Demand, WorkerTransport
from protocol.hub.events import (
    HubEvent,
    HubObserver,
    MessageIgnored,
    RemoteTaskEnded,
    TaskAssigned,
    TaskStranded,
    WorkerAway,
    WorkerJoined,
    WorkerLeft,
)
from protocol.hub.task_handles import TaskHandle, TaskListener, TaskRequest, is_final
from protocol.hub.timers import TimerQueue
from protocol.hub.waiting_tasks import LiveTask, WaitingLists, WaitingTasks
from protocol.wire.bounded import BoundedTable
from protocol.wire.messages import (
    Cancel,
    Cancelled,
    Code,
    Drain,
    HeldTask,
    Hold,
    Input,
    Kind,
    Payload,
    Profile,
    Progress,
    Result,
    TaskFailure,
    TokenChunk,
)
from protocol.wire.payloads import pack

CANCEL_S = 5.0
"""How long a worker may take to answer a cancellation before the task counts as leaked."""

MOST_ENDED = 4096
MOST_ENDED_BYTES = 64 << 20
"""Of tasks that ended and may be asked for again, their arguments and values."""

MOST_INPUTS = 4096
MOST_INPUT_TOKENS = 1 << 20
"""Of what a thread is given to read; more ends it."""

log = logging.getLogger(__name__)

WorkerMessage = Progress | TokenChunk | Result | Cancelled | Drain

KINDS: frozenset[Kind] = frozenset({"function", "tool", "thread"})


class Dispatcher:
    """Gives tasks to workers and ends them; see `Hub` for the public side.

    Attributes:
        workers: Who is connected, by id.
        observers: Called with each event.
    """

    def __init__(
        self,
        timers: TimerQueue,
        *,
        epoch: int,
        lease_s: float,
        most_waiting: int,
        key: bytes,
        expected: frozenset[str] = frozenset(),
    ) -> None:
        """Begin without workers or tasks; ``key`` proves to a later hub what workers were given.

        Nobody is given anything new for a lease, or until the ``expected`` workers of a hub that
        was killed are here: one of them may be running it.
        """
        self.workers: dict[str, ConnectedWorker] = {}
        self.observers: list[HubObserver] = []
        self._timers = timers
        self._lease_s = lease_s
        self._most_waiting = most_waiting
        self._key = key
        self._fences = itertools.count((epoch << 32) + 1)
        self._tasks: dict[str, LiveTask] = {}
        self._assigned = 0
        self._ended: BoundedTable[TaskHandle] = BoundedTable(MOST_ENDED, MOST_ENDED_BYTES)
        self._lists = WaitingLists(timers, self._fail_for_want_of_workers)
        self._held: dict[str, tuple[str, int]] = {}
        """Worker and fence of tasks that an earlier hub gave out and nobody has asked for yet."""
        self._expected = set(expected)
        if expected:
            timers.after(lease_s, partial(self._expect_nobody, set(expected)))

    # ---- workers -------------------------------------------------------------------------------

    def attach(
        self,
        id: str,
        profile: Profile,
        transport: WorkerTransport,
        *,
        scopes: frozenset[Kind] = KINDS,
        holding: Sequence[HeldTask] = (),
    ) -> ConnectedWorker:
        """Take a worker in; one of the same id leaves."""
        if id in self.workers:
            self._keep_back(self.workers[id], {held.id for held in holding})
            self.detach(self.workers[id], "replaced by another of the same name", killed=True)
        worker = ConnectedWorker(id, profile, scopes, transport)
        self.workers[id] = worker
        for held in holding:
            self._take_over(worker, held)
        if holding:
            self._timers.after(self._lease_s, partial(self._forget_held, worker))
        self._lists.join(worker)
        self._emit(WorkerJoined(worker=id, profile=profile))
        self._expect_nobody({id})
        self._feed(worker)
        return worker

    def detach(self, worker: ConnectedWorker, why: str, *, killed: bool = False) -> None:
        """Let a worker go; what it had goes elsewhere.

        A task under which too many have ended or gone silent, as ``killed`` says, is given up.
        """
        if self.workers.get(worker.id) is not worker:
            return
        worker.away = True
        self._forget_held(worker)
        tasks = [self._tasks[id] for id in worker.assigned]
        for task in tasks:
            self._take_back(task)
        del self.workers[worker.id]
        self._lists.leave(worker)
        self._emit(WorkerLeft(worker=worker.id, why=why))
        for task in tasks:
            task.lost.append(worker.id)
            task.killed += [worker.id] * killed
            if task.handle.result is None:
                self._again(task, f"its worker {worker.id} was lost ({why})")

    def away(self, worker: ConnectedWorker, away: bool) -> None:
        """Note that a worker's connection broke, or is there again."""
        if worker.away != away and self.workers.get(worker.id) is worker:
            worker.away = away
            if away:
                self._emit(WorkerAway(worker=worker.id))
            else:
                self._emit(WorkerJoined(worker=worker.id, profile=worker.profile))
                self._feed(worker)

    def receive(self, worker: ConnectedWorker, message: WorkerMessage) -> None:
        """Take what a worker says; ``value`` of a result must be text."""
        if isinstance(message, Drain):
            worker.draining = True
            return
        if worker.assigned.get(message.id) != message.fence:
            self._emit(MessageIgnored(worker=worker.id, task=message.id))
            return
        task = self._tasks[message.id]
        if isinstance(message, TokenChunk):
            self._note_tokens(task, worker, message)
            task.handle.tell(message)
        elif isinstance(message, Progress):
            task.handle.tell(message)
        else:
            self._take_back(task)
            self._settle(task, worker, message)
            self._feed(worker)

    def _note_tokens(self, task: LiveTask, worker: ConnectedWorker, chunk: TokenChunk) -> None:
        """Learn from a thread's tokens how fast its worker is, and whether it now stands still."""
        lanes = worker.load.lanes(task.demand)
        worker.curve(task.demand.name).note(lanes, len(chunk.tokens), self._timers.clock())
        task.written = chunk.at + len(chunk.tokens)
        task.stopped = chunk.reason is not None
        self._pause(task, worker)

    def _pause(self, task: LiveTask, worker: ConnectedWorker) -> None:
        """Let a thread that stands still leave its slot to others, and take one when it goes on."""
        until = task.handle.until
        held = until is not None and task.written >= until and worker.holds(task.demand)
        paused = task.stopped or held
        if paused != task.paused:
            task.paused = paused
            worker.load.pause(task.demand, paused)
            if paused:
                self._feed(worker)

    def refuse(self, worker: ConnectedWorker, id: str, fence: int, why: str) -> None:
        """Fail a worker's own task, as what the worker said of it can't be read."""
        if worker.assigned.get(id) == fence:
            worker.transport.send(Cancel(id=id, fence=fence))
            self._fail(self._tasks[id], "bad-message", f"worker {worker.id} sent {why}")
            self._feed(worker)

    def _settle(self, task: LiveTask, worker: ConnectedWorker, end: Result | Cancelled) -> None:
        """End a task as its worker says, or give it to another."""
        if isinstance(end, Cancelled):
            if task.handle.cancelling:
                self._end(task, end, worker.id)
            else:
                self._again(task, f"worker {worker.id} gave it up")
        elif end.failure is not None and end.failure.code == "draining":
            worker.draining = True
            task.handle.attempts -= 1
            self._again(task, f"worker {worker.id} is leaving")
        elif end.failure is not None and end.failure.code == "bad-payload":
            worker.data.clear()
            self._again(task, end.failure.message)
        else:
            self._end(task, end.model_copy(update={"worker": worker.id}), worker.id)

    # ---- what workers bring along --------------------------------------------------------------

    def _keep_back(self, worker: ConnectedWorker, ids: set[str]) -> None:
        """Take these tasks from a worker, to give them to the one that brings them."""
        for id in worker.assigned.keys() & ids:
            self._take_back(self._tasks[id])

    def _take_over(self, worker: ConnectedWorker, held: HeldTask) -> None:
        """Give a worker the task that it says it has, if it was its own, or keep it in mind."""
        task = self._tasks.get(held.id)
        proof = self._proof(worker.id, held.id, held.fence)
        own = hmac.compare_digest(proof.encode(), held.proof.encode())
        if task is not None:
            own = own or held.fence >= task.given.get(worker.id, math.inf)
        if own and task is None and held.id not in self._ended:
            self._held[held.id] = worker.id, held.fence
        elif (
            own and task is not None and task.handle.state == "queued" and worker.able(task.demand)
        ):
            self._assign(task, worker, adopted=True)
        elif task is None or task.handle.worker != worker.id:
            worker.transport.send(Cancel(id=held.id, fence=held.fence))
            if task is not None and task.handle.state == "queued":
                self._lists.add(task)
                self._dispatch(task)

    def _forget_held(self, worker: ConnectedWorker) -> None:
        """Stop what a worker brought along and nobody has asked for."""
        if self.workers.get(worker.id) is worker:
            for id, (holder, fence) in list(self._held.items()):
                if holder == worker.id:
                    del self._held[id]
                    if not worker.away:
                        worker.transport.send(Cancel(id=id, fence=fence))

    # ---- tasks ---------------------------------------------------------------------------------

    def submit(self, request: TaskRequest, listener: TaskListener | None = None) -> TaskHandle:
        """See `Submitter.submit`."""
        task = self._tasks.get(request.id)
        handle = self._ended.get(request.id) if task is None else task.handle
        if handle is None:
            task = self._admit(request)
            handle = task.handle
        elif (handle.request.name, handle.request.arguments) != (request.name, request.arguments):
            raise InvalidValue(
                f"task {request.id} was submitted before with another name or arguments; an id "
                "names one task, give this one its own"
            )
        if listener is not None:
            handle.listen(listener)
        if task is not None and handle.state == "queued":
            self._dispatch(task)
        return handle

    def extend(self, id: str, tokens: tuple[int, ...]) -> None:
        """See `TaskControl.extend`."""
        task = self._tasks[id]
        inputs = task.handle.inputs
        if len(inputs) > MOST_INPUTS or sum(map(len, inputs)) > MOST_INPUT_TOKENS:
            self._abort(task, "budget", f"task {id} was given too much to read; begin another")
            return
        worker = self._worker_of(task)
        if worker is not None:
            task.stopped = False
            self._pause(task, worker)
            try:
                worker.transport.send(Input(id=id, fence=worker.assigned[id], tokens=tokens))
            except BadMessage as error:
                self._abort(task, error.wire_code, str(error))

    def hold(self, id: str, until: int | None) -> None:
        """See `TaskControl.hold`."""
        task = self._tasks[id]
        worker = self._worker_of(task)
        if worker is not None and worker.holds(task.demand):
            worker.transport.send(Hold(id=id, fence=worker.assigned[id], until=until))
            self._pause(task, worker)

    def cancel(self, id: str) -> None:
        """See `TaskControl.cancel`."""
        task = self._tasks[id]
        worker = self._worker_of(task)
        if worker is None:
            self._end(task, Cancelled(id=id))
        else:
            worker.transport.send(Cancel(id=id, fence=worker.assigned[id]))
            if task.timer is not None:
                task.timer.cancel()
            task.timer = self._timers.after(CANCEL_S, partial(self._give_up, task))

    def _admit(self, request: TaskRequest) -> LiveTask:
        waiting = len(self._tasks) - self._assigned
        if waiting >= self._most_waiting:
            raise Congested(f"{waiting} tasks wait already; wait for some to end")
        packed, data = pack(request.arguments)
        limit = math.inf if request.deadline_s is None else request.deadline_s
        task = LiveTask(
            handle=TaskHandle(request, self),
            demand=Demand.of(request.kind, request.name, request.needs),
            payload=packed if isinstance(packed, Payload) else None,
            data=data,
            deadline=self._timers.clock() + limit,
        )
        if limit < math.inf:
            task.timer = self._timers.after(limit, partial(self._expire, task))
        self._tasks[request.id] = task
        self._lists.add(task)
        return task

    def _dispatch(self, task: LiveTask) -> None:
        """Place what waits in this task's list, as far as there is room."""
        holder, _ = self._held.get(task.id, ("", 0))
        worker = self.workers.get(holder)
        if worker is not None and worker.open and worker.able(task.demand):
            del self._held[task.id]
            self._assign(task, worker, adopted=True)  # it has it already, or even its result
            return
        waiting = self._lists.of(task.demand)
        self._place(waiting)
        if task.waiting is waiting and not waiting.workers and self.observers:
            nearest, why = self._lacking(task)
            self._emit(TaskStranded(worker=nearest, task=task.id, why=why))

    def _feed(self, worker: ConnectedWorker) -> None:
        """Give a worker that has room what has waited longest for the likes of it."""
        for waiting in self._lists.served_by(worker):
            if worker.load.full or not worker.open:
                return
            self._place(waiting)

    def _expect_nobody(self, ids: set[str]) -> None:
        """Wait for these workers no longer; once for none, give out what waits."""
        if self._expected:
            self._expected -= ids
            if not self._expected:
                for worker in list(self.workers.values()):
                    self._feed(worker)

    def _place(self, waiting: WaitingTasks) -> None:
        if self._expected:
            return
        while (found := waiting.next()) is not None:
            self._assign(*found)

    def _assign(self, task: LiveTask, worker: ConnectedWorker, *, adopted: bool = False) -> None:
        self._lists.discard(task)
        self._assigned += 1
        task.handle.worker = worker.id
        task.handle.attempts += 1
        fence = worker.assigned[task.id] = next(self._fences)
        task.given.setdefault(worker.id, fence)
        worker.load.take(task.demand)
        worker.problems[task.handle.request.problem] += 1
        left_s = task.deadline - self._timers.clock()
        try:
            task.send_to(worker, left_s, self._proof(worker.id, task.id, fence))
        except BadMessage as error:
            self._fail(task, error.wire_code, str(error))
            return
        attempt = task.handle.attempts
        self._emit(TaskAssigned(worker=worker.id, task=task.id, attempt=attempt, adopted=adopted))

    def _proof(self, worker: str, task: str, fence: int) -> str:
        """What only a hub with this key can have said to the worker that was given the task."""
        words = f"{worker}\n{task}\n{fence}".encode()
        return hashlib.blake2b(words, key=self._key, digest_size=16).hexdigest()

    def _worker_of(self, task: LiveTask) -> ConnectedWorker | None:
        return None if task.handle.worker is None else self.workers[task.handle.worker]

    def _take_back(self, task: LiveTask) -> None:
        """Let a task be nobody's, if it was a worker's."""
        worker = self._worker_of(task)
        if worker is not None:
            self._assigned -= 1
            del worker.assigned[task.id]
            if task.paused:
                worker.load.pause(task.demand, False)
            worker.load.give_back(task.demand)
            task.written, task.stopped, task.paused = 0, False, False
            worker.leave_problem(task.handle.request.problem)
            task.handle.worker = None

    # ---- ends ----------------------------------------------------------------------------------

    def _again(self, task: LiveTask, why: str) -> None:
        """Give a task to another worker, if it may have one more."""
        if task.handle.cancelling:
            self._end(task, Cancelled(id=task.id, leaked=True))
        elif len(task.killed) >= task.handle.request.budget.kills:
            had = f"task {task.id} ({task.demand}) was run by {', '.join(task.killed)} when they"
            self._fail(task, "worker-lost", f"{had} ended or hung; it may be why, look at it")
        elif task.handle.attempts >= task.handle.request.budget.attempts:
            given = f"task {task.id} was given to {task.handle.attempts} workers, and {why}"
            self._fail(task, "worker-lost", f"{given}; look at them, or allow more attempts")
        else:
            self._lists.add(task, first=True)
            self._dispatch(task)

    def _fail(self, task: LiveTask, code: Code, message: str) -> None:
        self._end(task, Result(id=task.id, failure=TaskFailure(code=code, message=message)))

    def _end(self, task: LiveTask, result: Result | Cancelled, worker: str = "") -> None:
        self._take_back(task)
        self._lists.discard(task)
        if task.timer is not None:
            task.timer.cancel()
        del self._tasks[task.id]
        if is_final(result):
            self._ended.add(task.id, task.handle, task.handle.size_with(result))
        how = "cancelled"
        if isinstance(result, Result):
            how = "succeeded" if result.failure is None else result.failure.code
        task.handle.end(result)
        self._emit(RemoteTaskEnded(worker=worker, task=task.id, how=how))

    def _give_up(self, task: LiveTask) -> None:
        """End a cancelled task whose worker has not answered."""
        if task.handle.result is None:
            self._end(task, Cancelled(id=task.id, leaked=True))

    def _expire(self, task: LiveTask) -> None:
        """Fail a task whose deadline has passed."""
        limit = task.handle.request.deadline_s
        self._abort(task, "deadline", f"task {task.id} took longer than {limit:g} s")

    def _abort(self, task: LiveTask, code: Code, message: str) -> None:
        """Fail a task, wherever it runs."""
        worker = self._worker_of(task)
        if worker is not None:
            stop = Cancel(id=task.id, fence=worker.assigned[task.id], reason=code)
            worker.transport.send(stop)
        self._fail(task, code, message)

    def _fail_for_want_of_workers(self, task: LiveTask) -> None:
        self._fail(task, "no-worker", self._lacking(task)[1])

    def _lacking(self, task: LiveTask) -> tuple[str, str]:
        """The worker that is nearly able to run a task, if any, and why no one is."""
        message = f"no connected worker can run {task.demand}; start one with reason worker"
        nearest, lacks = self._lists.nearest(task.demand)
        if nearest:
            message += f" ({nearest} offers it, but {', '.join(lacks)})"
        return nearest, message

    def _emit(self, event: HubEvent) -> None:
        for observer in tuple(self.observers):
            try:
                observer(event)
            except Exception:
                log.exception("an observer of the hub failed")
