"""The life of one run: its workers, its journal, and how it ends."""

from __future__ import annotations

import asyncio
import secrets
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskGroup

from orchestrator.editing.functions import Functions
from orchestrator.editing.structure import Structure
from orchestrator.errors import InvalidValue, told, with_note
from orchestrator.events import EventStream, RunEnded, TaskAdded
from orchestrator.node import Node
from orchestrator.scheduler.scheduler import Scheduler
from orchestrator.views.record import TaskState
from orchestrator.waiting.mailbox import Mailbox

if TYPE_CHECKING:
    from orchestrator.journal.resume import Restored
    from orchestrator.journal.store import Journal


@dataclass(frozen=True)
class JournalSettings:
    """Where a run is recorded, and how to go on from there; see `TaskGraph`."""

    path: Path
    resume: bool | Literal["strict"]
    again: tuple[TaskState, ...]


class GraphRun:
    """Runs a graph once, and tells the journal and the stream of events.

    Attributes:
        functions: Those that patches may name.
        notes: What was kept with `note`, by earlier processes first.
        mailbox: Values from outside that tasks wait for.
    """

    def __init__(
        self,
        name: str,
        structure: Structure,
        scheduler: Scheduler,
        functions: Functions,
        journal: JournalSettings | None,
        *,
        every: bool,
    ) -> None:
        self.name = scheduler.graph = name
        self.functions = functions
        self.structure = structure
        self.scheduler = scheduler
        self.notes: list[str] = []
        self.mailbox = Mailbox(scheduler)
        self._id = scheduler.run = secrets.token_hex(8)
        self._every = every
        self._settings = journal
        self._journal: Journal | None = None
        self._restored: Restored | None = None
        self._group: TaskGroup | None = None
        self._began = False

    @property
    def events(self) -> EventStream:
        """Where all that happens is told."""
        return self.scheduler.events

    @property
    def id(self) -> str:
        """Names this run among all; the same when it goes on from its journal."""
        return self._id if self._journal is None else self._journal.run

    # ---- what joins it -------------------------------------------------------------------------

    def admit(self, node: Node) -> None:
        """Dispatch a new node when it can start; if the journal has its end, it has ended."""
        if self.events.heard:
            self.scheduler.tell_all(
                TaskAdded,
                node.id,
                name=node.name,
                parent=None if node.parent is None else node.parent.id,
                after=tuple(edge.source.id for edge in node.inbound),
            )
        restored = self._restored if self.scheduler.journal is not None else None
        if restored is not None:
            restored.admit(node)
        self.scheduler.reconsider(node, fresh=True)
        if restored is not None:
            restored.restore(node)

    def note(self, text: str) -> None:
        """Keep a text with the run, and in its journal."""
        self.notes.append(text)
        if self.scheduler.journal is not None:
            self.scheduler.journal.noted(text)

    # ---- its life ------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Open the journal, bring the graph to where it ends, and start the workers.

        Raises:
            InvalidValue: it has begun before, or the journal is of another graph.
            JournalUnusable: the journal can't be used.
        """
        if self._began:
            raise InvalidValue("this graph has run already; build a new one to run it again")
        self._began = True
        try:
            self.scheduler.enter(asyncio.get_running_loop())
        except RuntimeError as error:
            raise InvalidValue(
                "a task graph runs on asyncio, not on trio; run it with anyio.run(main)"
            ) from error
        if self._settings is not None:
            from orchestrator.journal.outside import Outside
            from orchestrator.journal.resume import open_journal

            self._journal, self._restored = await open_journal(self, self._settings)
            self.scheduler.run = self._journal.run
            await anyio.to_thread.run_sync(self.mailbox.connect, Outside(self._settings.path))
        self._group = await anyio.create_task_group().__aenter__()
        if self._journal is not None:
            self.scheduler.journal = self._journal
            await self._journal.start(self._group)
        self.scheduler.start(self._group)

    async def end(self, error: BaseException | None) -> None:
        """Wait for every task, or, after an error of the block around the run, cancel them.

        Raises:
            Exception: the failure that nobody has seen, or a group of them.
        """
        try:
            if error is None:
                await self._drain()
            else:
                await self._leave(error)
        finally:
            self.structure.closed = True
            self.scheduler.journal = None
            self.scheduler.stop()
            if self._journal is not None:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._journal.shut)
            if self.events.heard:
                self.scheduler.tell_all(RunEnded, "")
            if self.scheduler.interrupted is not None:
                raise self.scheduler.interrupted
        unseen = self._unseen() if error is None else None
        if unseen is None and error is None and self._restored is not None:
            self._restored.refuse_difference()
        self._warn_of_listeners(unseen or error)
        if unseen is not None:
            raise unseen

    async def _drain(self) -> None:
        try:
            await self.scheduler.drained()
            self.structure.closed = True
            await anyio.lowlevel.checkpoint_if_cancelled()  # tasks may be faster to end by it
        except BaseException as error:
            await self._leave(error)
            raise
        if self._restored is not None:
            self._restored.leave_unmatched()
        if self._journal is not None:
            self._journal.close()
        self.mailbox.close()
        await self._leave(None)

    async def _leave(self, error: BaseException | None) -> None:
        """Leave the group of workers; an error of the block cancels them, and stays unwrapped."""
        assert self._group is not None
        if error is not None:
            self.scheduler.journal = None  # what is cancelled now has not ended
            if self._journal is not None:
                self._journal.close()
        trace = None if error is None else error.__traceback__
        try:
            await self._group.__aexit__(type(error) if error else None, error, trace)
        except BaseExceptionGroup as group:
            ours = [found for found in group.exceptions if found is not error]
            if ours:  # the journal's: tasks keep their errors to themselves
                raise ours[0] from None

    def _unseen(self) -> Exception | None:
        """The failure that nobody has seen, or all of them in a group."""
        found: dict[int, Exception] = {}  # once, if a task failed by what another raised
        for node in self.structure.nodes.values():
            if node.state == "failed" and not node.acknowledged and node.error is not None:
                found[id(node.error)] = node.error
        errors = list(found.values())
        if len(errors) > 1 and self._every:
            return ExceptionGroup(f"{len(errors)} tasks of graph {self.name} failed", errors)
        return errors[0] if errors else None

    def _warn_of_listeners(self, error: BaseException | None) -> None:
        """Tell what listeners raised: as notes of what the run raises, or as warnings."""
        for broken in self.events.broken:
            text = f"a listener of graph {self.name} raised {told(broken)}; mend it"
            if error is not None:
                with_note(error, text)
            else:
                warnings.warn(text, RuntimeWarning, stacklevel=4)
