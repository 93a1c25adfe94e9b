"""Whole problems in other processes, here or on a Ray cluster: the way past one process.

Each process loads the model once and keeps its `Reasoner`; the task graph places problems, tries
those of a lost worker again, and keeps what was solved in its journal.
"""

from __future__ import annotations

import atexit
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from orchestrator import Executor, Retry, Task, TaskGraph
from orchestrator.errors import ReasonError
from orchestrator.executors.ray import Ray
from orchestrator.executors.ray_actors import RayActors
from reasoning.models.loaded import LoadedModel
from reasoning.models.loading import load_model
from reasoning.solver import Reasoner

LOST = (
    *("BrokenWorkerProcess", "WorkerCrashedError", "ObjectLostError", "NodeDiedError"),
    *("OwnerDiedError", "RaySystemError", "RayActorError", "LocalRayletDiedError"),
    *("ActorUnschedulableError", "OutOfMemoryError"),
)
"""What executors raise where a worker, and not its problem, is at fault."""


@dataclass(frozen=True, kw_only=True)
class PoolModel:
    """How each process loads its model; the arguments of `load_model`."""

    model: str | None = None
    backend: str | None = None
    base_urls: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def load(self) -> LoadedModel:
        """The model, in this process.

        Raises:
            ReasonError: by its leaf, what can't be loaded.
        """
        return load_model(
            self.model, backend=self.backend, base_urls=self.base_urls, settings=self.settings
        )


@dataclass(frozen=True, kw_only=True)
class PoolResult:
    """What became of one problem.

    Attributes:
        report: As `Solution.to_dict` has it; None where there is none.
        error: Why there is none.
    """

    problem: str
    report: Mapping[str, Any] | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class SolvePool:
    """Processes that solve whole problems, each with a `Reasoner` of its own::

    pool = SolvePool(executor=Processes(4), model=PoolModel(model="reason-5m"))
    results = await pool.solve_many(problems, strategy="apr", n=16)

    Attributes:
        executor: Where they run: `Processes`, or `RayActors` for a cluster.  `Ray` stands for as
            many of these as it has room for, since its tasks may load the model each time.
        retries: How often a problem is begun again whose worker was lost.
        journal: A file that keeps what was solved, so that the same call goes on after a kill.
    """

    executor: Executor
    model: PoolModel = field(default_factory=PoolModel)
    retries: int = 2
    journal: Path | None = None

    def __post_init__(self) -> None:
        if type(self.executor) is Ray:
            actors = RayActors(address=self.executor.address, **self.executor.options)
            object.__setattr__(self, "executor", actors)

    async def solve_many(
        self,
        problems: Sequence[str],
        *,
        ended: Callable[[int, PoolResult], None] = lambda place, result: None,
        **options: Any,
    ) -> list[PoolResult]:
        """Solve problems; ``options`` are those of `Reasoner.solve`, in values that JSON has.

        Args:
            ended: Called with each problem's place and result as it ends.

        Returns:
            The results in the order of the problems; one that fails costs no other.
        """
        kept = self.journal is not None
        graph = TaskGraph(limit=max(1, len(problems)), journal=self.journal, resume=kept)
        retry = Retry(times=self.retries, on=LOST)
        tasks = [
            graph.add(
                solve_apart,
                *(asdict(self.model), problem, options),
                key=f"problem {place}",
                executor=self.executor,
                retry=retry,
            )
            for place, problem in enumerate(problems)
        ]
        results: dict[int, PoolResult] = {}

        def keep(place: int, task: Task[dict[str, Any]]) -> None:
            task.acknowledge()
            results[place] = _result(problems[place], task)
            ended(place, results[place])

        for place, task in enumerate(tasks):
            task.on_end(partial(keep, place))
        await graph.run()
        return [results[place] for place in range(len(problems))]


def _result(problem: str, task: Task[dict[str, Any]]) -> PoolResult:
    if task.state != "succeeded":
        said = f"{type(task.error).__name__}: {task.error}"
        return PoolResult(problem=problem, error=said)
    found = task.value
    return PoolResult(problem=problem, report=found.get("report"), error=found.get("error"))


class HeldReasoner:
    """A `Reasoner` on a loop in a thread of its own, for code without one."""

    def __init__(self, model: PoolModel) -> None:
        self._stack = ExitStack()
        self._portal: BlockingPortal = self._stack.enter_context(start_blocking_portal())
        self._reasoner: Reasoner = self._stack.enter_context(
            self._portal.wrap_async_context_manager(Reasoner(model.load()))
        )
        atexit.register(self._stack.close)

    def solve(self, problem: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """The report of one problem, or why there is none."""
        try:
            solution = self._portal.call(partial(self._reasoner.solve, problem, **options))
        except ReasonError as error:
            return {"error": str(error)}
        return {"report": solution.to_dict()}


_held: dict[PoolModel, HeldReasoner] = {}
"""The reasoners of this process."""


def solve_apart(model: dict[str, Any], problem: str, options: dict[str, Any]) -> dict[str, Any]:
    """Solve a problem in this process, whose model is loaded at the first call."""
    known = PoolModel(**model)
    if known not in _held:
        _held[known] = HeldReasoner(known)
    return _held[known].solve(problem, options)


class SolveBatches:
    """A transform for ``ray.data``: questions in, answers beside them out::

    dataset.map_batches(
        SolveBatches,
        fn_constructor_kwargs={"model": "reason-5m"},
        compute=ActorPoolStrategy(size=2),
    )

    Each actor keeps one `Reasoner`.  Of each batch ``column`` is read; ``answer``, ``confidence``
    and ``report`` (JSON, or an ``error``) are added.
    """

    def __init__(
        self,
        *,
        model: str | None = None,
        base_urls: Sequence[str] = (),
        column: str = "question",
        **options: Any,
    ) -> None:
        self._column = column
        self._options = options
        self._reasoner = HeldReasoner(PoolModel(model=model, base_urls=tuple(base_urls)))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        found = [self._reasoner.solve(str(one), self._options) for one in batch[self._column]]
        reports = [one.get("report") or {} for one in found]
        return {
            **batch,
            "answer": [one.get("answer") for one in reports],
            "confidence": [one.get("confidence") for one in reports],
            "report": [json.dumps(one.get("report", one)) for one in found],
        }
