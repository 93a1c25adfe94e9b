"""What ordinary programs do: it works, or is refused by name, and takes nobody along."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
import traceback
from collections import OrderedDict, UserList, deque, namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, LiteralString, ParamSpec, Protocol, TypeVar

import anyio
import pytest

from orchestrator import (
    Budget,
    ListenerFailed,
    Patch,
    Retry,
    Task,
    TaskAborted,
    TaskCancelled,
    TaskGraph,
    Timeout,
    complete,
    current_task,
    gather,
)
from orchestrator.editing.patches import Add
from orchestrator.errors import InvalidValue

pytestmark = pytest.mark.anyio

P = ParamSpec("P")
R = TypeVar("R")
Pair = namedtuple("Pair", "first second")


@dataclass(frozen=True)
class Box:
    content: Any


def here() -> Task[Any]:
    task = current_task()
    assert task is not None
    return task


async def one() -> int:
    return 1


async def fail(what: str) -> int:
    raise ValueError(f"bad {what}")


async def give(value: Any) -> Any:
    return value


# ---- tasks in containers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda value: {"a": value, "b": [value]},
        lambda value: [[value], ({"x": value},)],
        lambda value: Box(Box(value)),
        lambda value: Pair(value, 2),
        lambda value: OrderedDict(a=value),
    ],
)
async def test_a_task_inside_a_container_is_an_edge(wrap: Callable[[Any], Any]) -> None:
    graph = TaskGraph()
    source = graph.add(one)
    task = graph.add(give, wrap(source))
    assert task.after == (source,)
    value = await graph.run(task)
    assert (value, type(value)) == (wrap(1), type(wrap(1)))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda task: {task},
        lambda task: {task: 1},
        lambda task: {(1, (task,))},
        lambda task: deque([[task]]),
        lambda task: UserList([task]),
        lambda task: {"a": task}.values(),
        lambda task: {"a": task}.items(),
        lambda task: MappingProxyType({"a": [task]}),
        lambda task: SimpleNamespace(a=task),
        lambda task: partial(print, task),
    ],
)
async def test_a_task_where_no_value_can_arrive_is_refused(wrap: Callable[[Any], Any]) -> None:
    graph = TaskGraph()
    with pytest.raises(InvalidValue, match=r"task 1 \(one\) is in"):
        graph.add(give, wrap(graph.add(one)))


async def test_a_container_that_contains_itself_is_passed_on() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    graph = TaskGraph()
    assert await graph.run(graph.add(give, loop)) is loop


# ---- what functions return ---------------------------------------------------------------------


async def test_a_returned_task_or_coroutine_is_awaited() -> None:
    async def child() -> Any:
        return here().graph.add(one)

    graph = TaskGraph()
    tasks = [graph.add(child), graph.add(lambda: one())]
    await graph.run()
    assert [task.value for task in tasks] == [1, 1]


async def test_returned_generators_and_collections_of_tasks_are_refused_by_name() -> None:
    def generate() -> Any:
        yield 1

    async def tasks() -> Any:
        return [here().graph.add(one)]

    for function, words in ((generate, "generator"), (tasks, "tasks in a list")):
        graph = TaskGraph()
        with pytest.raises(InvalidValue, match=rf"task 1 \({function.__name__}\) .*{words}"):
            await graph.run(graph.add(function))


# ---- annotations -------------------------------------------------------------------------------


class Speaks(Protocol):
    def speak(self) -> str: ...


class Dog:
    def speak(self) -> str:
        return "woof"


async def listen(animal: Speaks) -> str:
    return animal.speak()


async def twice(numbers: Iterable[int]) -> int:
    return sum(numbers) + sum(numbers)


async def letters(word: Sequence[str], more: Mapping[str, Sequence[int]]) -> int:
    return len(word) + len(more)


async def count(flag: int, ratio: float) -> float:
    return flag + ratio


async def call(function: Callable[[int], int]) -> int:
    return function(1)


async def maybe(number: int = None) -> int:  # type: ignore[assignment]  # noqa: RUF013
    return number or 7


async def literal(word: LiteralString) -> str:
    return word


def logged(function: Callable[P, R]) -> Callable[P, R]:
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)

    return inner


@pytest.mark.parametrize(
    ("function", "values", "expected"),
    [
        (listen, [Dog()], "woof"),
        (twice, [[1, 2]], 6),
        (letters, ["ab", {"a": (1,)}], 3),
        (count, [True, 1], 2),
        (call, [abs], 1),
        (maybe, [None], 7),
        (literal, ["a"], "a"),
        (logged(lambda value: value), [5], 5),
    ],
)
async def test_everyday_annotations_never_break_an_edge(
    function: Callable[..., Any], values: list[Any], expected: Any
) -> None:
    graph = TaskGraph()
    assert await graph.run(graph.add(function, *[graph.add(give, v) for v in values])) == expected


# ---- ends that are not ours --------------------------------------------------------------------


async def foreign() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await anyio.sleep(1)


async def leaves() -> None:
    raise SystemExit(3)


def leaves_in_a_thread() -> None:
    raise SystemExit(3)


async def closes() -> None:
    raise GeneratorExit


async def test_a_cancellation_that_a_task_leaves_behind_hits_no_other() -> None:
    async def leave() -> int:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()  # and returns before it could be told
        return 1

    graph = TaskGraph(limit=1)
    tasks = [graph.add(leave), graph.add(anyio.sleep, 0), graph.add(one)]
    await graph.run()
    assert {task.state for task in tasks} == {"succeeded"}


@pytest.mark.parametrize("end", [foreign, cancels_itself, leaves, leaves_in_a_thread, closes])
async def test_an_end_that_is_not_ours_fails_its_task_alone(end: Callable[[], Any]) -> None:
    graph = TaskGraph()
    bad, good = graph.add(end), graph.add(anyio.sleep, 0.01)
    late = graph.add(give, good)
    with pytest.raises(TaskAborted, match=rf"task 1 \({end.__name__}\) raised"):
        await graph.run()
    assert (bad.state, good.state, late.state) == ("failed", "succeeded", "succeeded")


async def test_an_error_without_a_text_fails_its_task_by_name() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

        __repr__ = __str__

    async def mute() -> None:
        raise Mute

    graph = TaskGraph()
    task = graph.add(mute, retry=Retry(times=1, delay=0))
    graph.add(give, 1, after={task: "error == 'Mute'"})
    await graph.run()
    assert set(graph.states().values()) == {"failed", "succeeded"}
    assert graph.record().tasks[0].error == "Mute: Mute"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, type("End", (BaseException,), {})])
async def test_an_interrupt_stops_the_run_in_order(kind: type[BaseException]) -> None:
    async def interrupt() -> None:
        raise kind

    graph = TaskGraph()
    done = graph.add(one)
    graph.add(interrupt, after=done)
    slow = graph.add(anyio.sleep, 100)
    with anyio.fail_after(5), pytest.raises(kind):
        await graph.run()
    assert (done.state, slow.state) == ("succeeded", "cancelled")


# ---- threads -----------------------------------------------------------------------------------


async def test_a_thread_may_do_what_a_task_may() -> None:
    def work() -> list[str]:
        task = here()
        graph = task.graph
        seen: list[str] = []
        child = graph.add(anyio.sleep, 100)
        child.on_end(lambda ended: seen.append(ended.state))
        for number in range(4):
            time.sleep(0.03)
            task.progress(partial=number)
        child.cancel()
        task.spend(tokens=5)
        graph.note("from a thread")
        graph.apply(Patch(ops=(Add(id="x", function="one"),)))
        anyio.from_thread.run(child.wait)
        return seen

    graph = TaskGraph(functions=[one])
    with Budget(tokens=10) as budget:
        task = graph.add(work, timeout=Timeout(idle=0.1))
    assert await graph.run(task) == ["cancelled"]
    assert (budget.spent["tokens"], graph.notes, graph["x"].value) == (5, ["from a thread"], 1)


async def test_threads_are_bounded_and_waiting_ones_do_not_count() -> None:
    def block(_: int) -> int:
        time.sleep(0.005)
        return threading.active_count()

    def parent(depth: int) -> int:
        if depth:
            anyio.from_thread.run(here().graph.add(parent, depth - 1).result)
        return depth

    before = threading.active_count()
    graph = TaskGraph(threads=4)
    assert max(await graph.run(graph.map(block, range(30)))) <= before + 4
    graph = TaskGraph(threads=1)
    with anyio.fail_after(10):
        assert await graph.run(graph.add(parent, 5)) == 5


async def test_the_wait_for_a_thread_is_no_part_of_a_run_timeout() -> None:
    graph = TaskGraph(threads=1)
    for _ in range(4):
        graph.add(time.sleep, 0.06, timeout=Timeout(run=0.15))
    await graph.run()
    assert set(graph.states().values()) == {"succeeded"}


# ---- listeners, context ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit])
async def test_a_listener_that_raises_is_reported_and_changes_nothing(
    kind: type[BaseException],
) -> None:
    def broken(_: object) -> None:
        raise kind("a bug")

    graph = TaskGraph()
    events: list[Any] = []
    graph.events.subscribe(events.append)
    first = graph.add(one)
    first.on_end(broken)
    second = graph.add(give, first)
    with pytest.warns(RuntimeWarning, match="a bug"):
        assert await graph.run(second) == 1
    assert [e.task for e in events if isinstance(e, ListenerFailed)] == [first.id]


request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="unset")


async def test_a_task_sees_the_context_of_the_place_that_added_it() -> None:
    async def see() -> str:
        return request.get()

    async def parent(value: str) -> tuple[str, str]:
        request.set(value)
        graph = here().graph
        return await graph.add(see).result(), await graph.add(lambda: request.get()).result()

    graph = TaskGraph()
    token = request.set("outside")
    outside = graph.add(see)
    request.reset(token)
    tasks = [graph.add(parent, value) for value in ("a", "b")]
    plain = graph.add(see)
    await graph.run()
    assert [task.value for task in tasks] == [("a", "a"), ("b", "b")]
    assert (outside.value, plain.value) == ("outside", "unset")


async def test_a_graph_inside_a_task_spends_from_its_budget() -> None:
    async def spend() -> None:
        here().spend(tokens=5)

    async def outer() -> None:
        inner = TaskGraph()
        inner.add(spend)
        await inner.run()

    graph = TaskGraph()
    with Budget(tokens=12) as budget:
        for _ in range(2):
            graph.add(outer)
    await graph.run()
    assert budget.spent["tokens"] == 10


# ---- errors ------------------------------------------------------------------------------------


async def test_several_failures_arrive_together_and_each_says_of_what() -> None:
    graph = TaskGraph()
    tasks = [graph.add(fail, what) for what in ("first", "second")]
    with pytest.raises(ExceptionGroup) as caught:
        await graph.run()
    assert [str(error) for error in caught.value.exceptions] == ["bad first", "bad second"]
    assert "task 2 (fail), attempt 1, called with ('second',)" in "".join(
        traceback.format_exception(caught.value)
    )
    graph = TaskGraph(errors="first")
    tasks = [graph.add(fail, what) for what in ("first", "second")]
    with pytest.raises(ValueError, match="bad first"):
        await graph.run()
    assert [task.state for task in tasks] == ["failed", "failed"]


async def test_a_group_raised_in_a_task_stays_whole() -> None:
    async def two() -> None:
        raise ExceptionGroup("both", [ValueError("a"), OSError("b")])

    graph = TaskGraph()
    with pytest.raises(ExceptionGroup, match="both") as caught:
        await graph.run(graph.add(two))
    assert len(caught.value.exceptions) == 2


async def test_skipped_and_cancelled_say_because_of_whom() -> None:
    graph = TaskGraph()
    bad = graph.add(fail, "news")
    late = graph.add(give, graph.add(give, bad))
    with pytest.raises(ValueError, match="bad news"):
        await graph.run()
    with pytest.raises(TaskCancelled, match=r"skipped, because task 1 \(fail\) was failed.*news"):
        await late.result()


async def test_a_map_fails_at_once_and_cancels_the_others() -> None:
    async def item(number: int) -> int:
        if number == 3:
            raise ValueError("bad item")
        await anyio.sleep(20)
        return number

    graph = TaskGraph()
    with anyio.fail_after(3), pytest.raises(ValueError, match="bad item"):
        await graph.run(graph.map(item, range(5)))
    assert sorted(graph.states().values()) == ["cancelled"] * 4 + ["failed"] * 2
    with pytest.raises(TaskCancelled, match=r"because task 1.4 \(item 4\) was failed"):
        await graph["1.1"].result()


async def test_gather_returns_values_in_order() -> None:
    graph = TaskGraph()
    async with graph:
        assert await gather([graph.add(give, value) for value in "abc"]) == ["a", "b", "c"]
        assert await gather([]) == []


# ---- fairness, and what it runs on -------------------------------------------------------------


@pytest.mark.parametrize("priority", [0, 10])
async def test_a_wide_task_is_not_starved_by_small_ones(priority: int) -> None:
    order: list[str] = []

    async def small(seconds: float) -> None:
        order.append("small")
        await anyio.sleep(seconds)

    async def wide() -> None:
        order.append("wide")

    async with TaskGraph(resources={"gpu": 4}) as graph:
        for number in range(4):
            graph.add(small, 0.005 + number * 0.002, resources={"gpu": 1})
        await anyio.sleep(0.001)
        graph.add(wide, resources={"gpu": 4}, priority=priority)
        for number in range(60):
            graph.add(small, 0.003 + number % 5 * 0.002, resources={"gpu": 1})
    assert order.index("wide") < 30


def test_asyncio_in_debug_mode_will_do_and_trio_is_refused() -> None:
    async def main() -> int:
        graph = TaskGraph()
        return await graph.run(graph.add(give, graph.add(one)))

    assert asyncio.run(main(), debug=True) == 1
    with pytest.raises(InvalidValue, match="runs on asyncio, not on trio"):
        main().send(None)  # no event loop of asyncio, as under trio


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop has no Windows")
def test_uvloop_will_do_also_for_a_journal_that_waits(tmp_path: Path) -> None:
    import uvloop

    async def main() -> int:
        graph = TaskGraph(journal=tmp_path / "run.db")
        number = graph.receive("number", int)
        async with graph:
            await asyncio.to_thread(complete, tmp_path / "run.db", "number", 3)
        return number.value

    assert uvloop.run(main()) == 3
