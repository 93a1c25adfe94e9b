"""Options can't be lost: each is used, goes to the function, or is refused by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import Retry, TaskGraph, Timeout
from orchestrator.errors import InvalidValue


async def greet(who: str, *, name: str = "nobody", times: int = 1) -> str:
    return f"{name} greets {who} x{times}"


async def take(**anything: Any) -> dict[str, Any]:
    return anything


def test_a_keyword_that_is_no_option_goes_to_the_function() -> None:
    graph = TaskGraph()
    assert graph.run_sync(graph.add(greet, "you", times=3)) == "nobody greets you x3"


def test_a_task_given_by_keyword_is_an_edge() -> None:
    async def three() -> int:
        return 3

    graph = TaskGraph()
    assert graph.run_sync(graph.add(greet, "you", times=graph.add(three))) == "nobody greets you x3"


@pytest.mark.parametrize(
    ("keyword", "instead"), [("retrys", "retry"), ("tmies", "times"), ("prioritty", "priority")]
)
def test_an_unknown_keyword_is_refused_with_the_nearest(keyword: str, instead: str) -> None:
    graph = TaskGraph()
    for add in (
        lambda **options: graph.add(greet, "you", **options),
        lambda **options: graph.map(greet, ["you"], **options),
        lambda **options: graph.reduce(greet, [], **options),
    ):
        with pytest.raises(InvalidValue, match=f"'{keyword}'.*did you mean {instead}"):
            add(**{keyword: 1})
    assert len(graph) == 0


def test_an_option_that_is_also_a_parameter_is_refused_with_what_to_write() -> None:
    graph = TaskGraph()
    with pytest.raises(InvalidValue, match=r"write kwargs=\{'name': \.\.\.\}"):
        graph.add(greet, "you", name="Ann")
    task = graph.add(greet, "you", kwargs={"name": "Ann"})
    assert graph.run_sync(task) == "Ann greets you x1"


def test_a_parameter_filled_by_position_leaves_its_name_to_the_option() -> None:
    async def rename(name: str) -> str:
        return name

    graph = TaskGraph()
    task = graph.add(rename, "old", name="shown")
    assert (graph.run_sync(task), task.name) == ("old", "shown")


def test_a_function_that_takes_any_keyword_gets_it() -> None:
    graph = TaskGraph()
    assert graph.run_sync(graph.add(take, colour="red")) == {"colour": "red"}


def test_keywords_of_decorated_and_bound_functions_are_known() -> None:
    @functools.wraps(greet)
    async def logged(*args: Any, **kwargs: Any) -> str:
        return await greet(*args, **kwargs)

    class Greeter:
        async def greet(self, who: str, loudly: bool = False) -> str:
            return who.upper() if loudly else who

    graph = TaskGraph()
    task = graph.add(Greeter().greet, "you", loudly=True)
    for function, wrong in ((logged, "timess"), (Greeter().greet, "loudlyy")):
        with pytest.raises(InvalidValue, match=f"'{wrong}'"):
            graph.add(function, "you", **{wrong: 2})
    assert graph.run_sync(task) == "YOU"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("name", 3),
        ("kwargs", [1]),
        ("retry", 3),
        ("timeout", 10),
        ("priority", "high"),
        ("priority", True),
        ("resources", "gpu"),
        ("executor", "ray"),
        ("reserve", {"tokens": "many"}),
        ("after", ["1"]),
    ],
)
def test_an_option_of_the_wrong_kind_is_refused_by_name(option: str, value: object) -> None:
    async def nothing() -> None: ...

    with pytest.raises(InvalidValue, match=option):
        TaskGraph().add(nothing, **{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Retry(tiems=3), "Retry has no option 'tiems'; did you mean times"),  # type: ignore[call-arg]
        (lambda: Timeout(rnu=3), "Timeout has no option 'rnu'; did you mean run"),  # type: ignore[call-arg]
        (lambda: TaskGraph(limits=3), "TaskGraph has no option 'limits'; did you mean limit"),  # type: ignore[call-arg]
        (lambda: Retry(times="3"), "retry times is '3'"),  # type: ignore[arg-type]
        (lambda: Retry(on="ValueError"), "retry on is 'ValueError'"),  # type: ignore[arg-type]
        (lambda: Timeout(run="3"), "timeout run is '3'"),  # type: ignore[arg-type]
        (lambda: TaskGraph(limit="3"), "graph limit is '3'"),  # type: ignore[arg-type]
        (lambda: TaskGraph(resources={"gpu": "1"}), "graph resources"),  # type: ignore[dict-item]
        (lambda: TaskGraph(again=("fialed",)), "graph again"),  # type: ignore[arg-type]
    ],
)
def test_a_constructor_refuses_what_it_can_not_use(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        make()


# ---- annotations belong to functions -----------------------------------------------------------


def test_decorated_functions_keep_their_own_annotations() -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def inner(*args: Any) -> Any:
            return await function(*args)

        return inner

    @logged
    async def plus(number: int) -> int:
        return number + 1

    @logged
    async def longer(text: str) -> str:
        return text + "b"

    async def one() -> int:
        return 1

    async def word() -> str:
        return "a"

    graph = TaskGraph()
    number, text = graph.add(plus, graph.add(one)), graph.add(longer, graph.add(word))
    graph.run_sync()
    assert (number.value, text.value) == (2, "ab")
    wrong = TaskGraph()
    task = wrong.add(plus, wrong.add(word))
    with pytest.raises(InvalidValue, match="does not fit its annotation"):
        wrong.run_sync(task)


def test_a_bound_method_is_checked_without_its_self() -> None:
    class Box:
        async def put(self, number: int) -> int:
            return number

    async def word() -> str:
        return "a"

    async def one() -> int:
        return 1

    graph = TaskGraph()
    assert graph.run_sync(graph.add(Box().put, graph.add(one))) == 1
    wrong = TaskGraph()
    task = wrong.add(Box().put, wrong.add(word))
    with pytest.raises(InvalidValue, match="argument 1"):
        wrong.run_sync(task)


def test_a_resolver_finds_the_functions_that_patches_name() -> None:
    from orchestrator import Patch
    from orchestrator.errors import PatchRefused

    graph = TaskGraph(resolver={"take": take}.get)
    graph.apply(Patch.parse('{"ops": [{"op": "add", "id": "a", "function": "take"}]}'))
    with pytest.raises(PatchRefused, match="no function 'other'"):
        graph.apply(Patch.parse('{"ops": [{"op": "add", "id": "b", "function": "other"}]}'))
    graph.run_sync()
    assert graph["a"].value == {}


def test_an_acknowledged_failure_is_not_raised_by_the_run() -> None:
    async def fail() -> None:
        raise ConnectionError("down")

    graph = TaskGraph()
    task = graph.add(fail)
    task.on_end(lambda ended: ended.acknowledge())
    graph.run_sync()
    assert task.state == "failed"
