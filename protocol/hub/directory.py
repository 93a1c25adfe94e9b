"""Who is connected, and what becomes of one's tasks, for clients of a hub in another process.

Two tools of the hub's own: one tells who is here, the other tells news until it is cancelled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import anyio
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from protocol.errors import BadMessage, Congested, ProtocolError
from protocol.hub.connected_workers import ConnectedWorker
from protocol.hub.events import (
    HubEvent,
    TaskAssigned,
    TaskStranded,
    WorkerAway,
    WorkerJoined,
    WorkerLeft,
)
from protocol.hub.hub import Hub
from protocol.hub.task_handles import Submitter, TaskRequest
from protocol.wire.checked import first_problem
from protocol.wire.messages import (
    Cancel,
    Cancelled,
    Down,
    Name,
    Offer,
    Payload,
    Profile,
    Progress,
    Result,
    TaskFailure,
    TaskMessage,
    TaskNeeds,
)

TOOL = "hub.devices"
NEWS = "hub.news"
WORKER = "hub"

MOST_ASKED = 1_000
"""Questions at once that wait for workers, and as many that follow the news."""

MOST_WHY = 2_000
"""Characters of a reason; news are progress, which is cut where it is too long."""


class DirectoryQuestion(BaseModel):
    """The arguments of the tool: how many workers must be there."""

    model_config = ConfigDict(extra="forbid")

    least: int = Field(default=0, ge=0, le=100_000)


class NewsQuestion(BaseModel):
    """The arguments of the other tool: the question's own id, as its client calls it."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(min_length=1, max_length=400)


class HubNews(BaseModel):
    """What happened to a worker, or to a task of whoever asks.

    Attributes:
        what: A worker is ``here``, ``away`` (not heard of) or ``gone``; a task was ``given`` to a
            worker, or is ``stranded``: no connected worker is able to run it.
            ``untold``: the hub elsewhere tells no news.
        worker: Its id; of a stranded task that which is nearly able, if any.
        task: The task's id.
        attempt: Workers that the task was given to.
        why: In words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: Literal["here", "away", "gone", "given", "stranded", "untold"]
    worker: str = ""
    task: str = ""
    attempt: int = 0
    why: str = ""

    @classmethod
    def of(cls, event: HubEvent) -> HubNews | None:
        """An event as news; None for what is none."""
        match event:
            case WorkerJoined(worker=worker):
                return cls(what="here", worker=worker)
            case WorkerAway(worker=worker):
                return cls(what="away", worker=worker)
            case WorkerLeft(worker=worker, why=why):
                return cls(what="gone", worker=worker, why=why[:MOST_WHY])
            case TaskAssigned(worker=worker, task=task, attempt=attempt):
                return cls(what="given", worker=worker, task=task, attempt=attempt)
            case TaskStranded(worker=worker, task=task, why=why):
                return cls(what="stranded", worker=worker, task=task, why=why[:MOST_WHY])
        return None


_profiles: TypeAdapter[dict[Name, Profile]] = TypeAdapter(dict[Name, Profile])


class Directory:
    """A worker inside a hub that tells who else is there; attach it with `open`.

    A question may ask for the ``least`` number of workers: it is answered once they are there.
    One that follows the news is answered by progress, a `HubNews` each, until it is cancelled; of
    tasks it tells those only that come from the same client.
    """

    inline = True

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._worker: ConnectedWorker | None = None
        self._asked: dict[str, tuple[TaskMessage, int]] = {}
        self._following: dict[str, TaskMessage] = {}
        """Questions for news, by what the ids of their client's tasks begin with."""

    def open(self) -> None:
        """Be a worker of the hub from now on."""
        about = {TOOL: "Who is here.", NEWS: "What happens to workers and to the asker's tasks."}
        offers = tuple(
            Offer(name=name, description=text, parameters="{}", result="{}")
            for name, text in about.items()
        )
        profile = Profile(slots=100_000, tools=offers)
        self._worker = self._hub.attach(WORKER, profile, self, scopes=frozenset({"tool"}))
        self._hub.observe(self._hear)

    def send(self, message: Down) -> None:
        """See `protocol.WorkerTransport.send`; it answers in the next round, not at once."""
        if isinstance(message, TaskMessage):
            self._ask(message)
        elif isinstance(message, Cancel):
            self._following = {
                own: task for own, task in self._following.items() if task.id != message.id
            }
            self._asked.pop(message.id, None)
            cancelled = Cancelled(id=message.id, fence=message.fence)
            self._hub.call_soon(lambda: self._say(cancelled))

    def provide(self, payload: Payload, data: bytes) -> None:
        """See `protocol.WorkerTransport.provide`; never called."""

    def _hear(self, event: HubEvent) -> None:
        if self._asked and isinstance(event, WorkerJoined):
            self._hub.call_soon(self._answer)
        if self._following and event.worker != WORKER:
            news = HubNews.of(event)
            if news is not None:
                self._hub.call_soon(partial(self._tell, news))

    def _tell(self, news: HubNews) -> None:
        """Tell news to all, those of a task to its client alone, under its own name for it."""
        for own, question in self._following.items():
            if not news.task or news.task.startswith(own):
                told = news.model_copy(update={"task": news.task.removeprefix(own)})
                text = told.model_dump_json(exclude_defaults=True)
                self._say(Progress(id=question.id, fence=question.fence, text=text))

    def _ask(self, task: TaskMessage) -> None:
        assert isinstance(task.arguments, str)
        try:
            if task.name == NEWS:
                self._follow(task, NewsQuestion.model_validate_json(task.arguments).id)
            else:
                least = DirectoryQuestion.model_validate_json(task.arguments).least
                self._check_room(len(self._asked))
                self._asked[task.id] = task, least
                self._hub.call_soon(self._answer)
        except ValidationError as error:
            self._fail(task, TaskFailure(code="bad-arguments", message=first_problem(error)))
        except ProtocolError as error:
            self._fail(task, TaskFailure(code=error.wire_code, message=str(error)))

    def _follow(self, task: TaskMessage, id: str) -> None:
        """Let a client follow the news; its earlier question ends.

        Raises:
            BadMessage: the question's id is another.
            Congested: there are too many.
        """
        own = task.id.removesuffix(id)
        if own == task.id or not own.endswith("/"):
            raise BadMessage(f"id: {id!r} is not the id of this question; give that")
        before = self._following.pop(own, None)
        self._check_room(len(self._following))
        self._following[own] = task
        if before is not None:
            self._fail(before, TaskFailure(code="replaced", message="a later question follows"))

    def _check_room(self, count: int) -> None:
        if count >= MOST_ASKED:
            raise Congested(f"{count} ask the directory already; wait for some to end")

    def _fail(self, task: TaskMessage, failure: TaskFailure) -> None:
        result = Result(id=task.id, fence=task.fence, failure=failure)
        self._hub.call_soon(partial(self._say, result))

    def _answer(self) -> None:
        """Answer every question for which enough workers are there."""
        if not self._asked:
            return
        here = others(self._hub)
        value = _profiles.dump_json(here).decode()
        for task, least in list(self._asked.values()):
            if len(here) >= least:
                del self._asked[task.id]
                self._say(Result(id=task.id, fence=task.fence, value=value))

    def _say(self, message: Progress | Result | Cancelled) -> None:
        assert self._worker is not None
        self._hub.receive(self._worker, message)


def others(hub: Hub) -> dict[str, Profile]:
    """A hub's workers that are heard of, but for its directory."""
    return {
        id: worker.profile
        for id, worker in hub.connected.items()
        if id != WORKER and not worker.away
    }


async def devices(submitter: Submitter, id: str, *, least: int = 0) -> dict[str, Profile]:
    """Who is connected to a hub, here or elsewhere, once at least so many are.

    ``id`` must be new for each question.

    Raises:
        NoWorker: the hub elsewhere keeps no directory.
    """
    if isinstance(submitter, Hub):
        await _wait_for(submitter, least)
        return others(submitter)
    outcome = await submitter.submit(_asking(id, TOOL, DirectoryQuestion(least=least))).outcome()
    return _profiles.validate_json(outcome.value)


async def _wait_for(hub: Hub, least: int) -> None:
    joined = anyio.Event()

    def hear(event: HubEvent) -> None:
        if len(others(hub)) >= least:
            joined.set()

    if len(others(hub)) < least:
        ignore = hub.observe(hear)
        try:
            await joined.wait()
        finally:
            ignore()


def follow(submitter: Submitter, id: str, tell: Callable[[HubNews], None]) -> Callable[[], None]:
    """Call ``tell`` with what happens to workers and to this submitter's tasks.

    Returns what ends that.  ``id`` must be new for each call.
    """
    if isinstance(submitter, Hub):
        return submitter.observe(partial(_tell_of, tell))
    request = _asking(id, NEWS, NewsQuestion(id=id))
    return submitter.submit(request, partial(_hear_news, tell)).cancel


def _asking(id: str, tool: str, question: BaseModel) -> TaskRequest:
    """A call of one of the hub's own tools."""
    return TaskRequest(
        id=id,
        kind="tool",
        name=tool,
        arguments=question.model_dump_json(),
        needs=TaskNeeds(worker=WORKER),
        patience_s=5,
    )


def _tell_of(tell: Callable[[HubNews], None], event: HubEvent) -> None:
    news = HubNews.of(event)
    if news is not None and news.worker != WORKER:
        tell(news)


def _hear_news(tell: Callable[[HubNews], None], said: object) -> None:
    if isinstance(said, Progress):
        tell(HubNews.model_validate_json(said.text))
    elif isinstance(said, Result) and said.failure is not None:
        tell(HubNews(what="untold", why=said.failure.message))
