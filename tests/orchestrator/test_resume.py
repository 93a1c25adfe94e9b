"""Resuming: what is unchanged does not run again, and nothing stale or swapped comes back."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import enum
import random
import shutil
import sqlite3
import threading
import time
from collections import Counter, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from orchestrator import Budget, Retry, Task, TaskGraph, current_task
from orchestrator.errors import InvalidValue, JournalUnusable
from orchestrator.journal import store
from orchestrator.journal.codec import error_to_json, from_json, to_json

pytestmark = pytest.mark.anyio

CALLS: Counter[Any] = Counter()


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


def here() -> TaskGraph:
    task = current_task()
    assert task is not None
    return task.graph


async def ask(prompt: str) -> str:
    CALLS[prompt] += 1
    return prompt.upper()


async def join(texts: list[str]) -> str:
    CALLS["join"] += 1
    return " ".join(texts)


class Crash(BaseException):
    """Ends the run as the end of the process would."""


async def crash(*_: Any) -> None:
    raise Crash


def ran() -> dict[Any, int]:
    """What has run since this was asked last."""
    found = dict(CALLS)
    CALLS.clear()
    return found


# ---- what has changed runs again, and only that --------------------------------------------------


def asked(path: Path, prompts: list[str], **options: Any) -> tuple[TaskGraph, Task[str]]:
    graph = TaskGraph(journal=path, resume=options.pop("resume", True), **options)
    return graph, graph.add(join, [graph.add(ask, prompt) for prompt in prompts])


@pytest.mark.parametrize(
    ("then", "again"),
    [
        (["a", "b", "c"], {}),
        (["a", "x", "c"], {"x": 1, "join": 1}),
        (["a", "x", "b", "c"], {"x": 1, "join": 1}),
        (["a", "c"], {"join": 1}),
        (["c", "b", "a"], {"join": 1}),
        (["a", "a", "b", "c"], {"a": 1, "join": 1}),
    ],
)
async def test_roots_that_were_changed_inserted_removed_or_moved(
    tmp_path: Path, then: list[str], again: dict[str, int]
) -> None:
    graph, end = asked(tmp_path / "run.db", ["a", "b", "c"])
    assert await graph.run(end) == "A B C"
    ran()
    for expected in (again, {}):
        graph, end = asked(tmp_path / "run.db", then)
        assert await graph.run(end) == " ".join(then).upper()
        assert ran() == expected


async def test_a_map_runs_what_is_new_among_its_items(tmp_path: Path) -> None:
    for items, expected in (("abc", "abc"), ("axbc", "x"), ("cab", ""), ("cab", "")):
        graph = TaskGraph(journal=tmp_path / "run.db", resume=True)
        assert await graph.run(graph.map(ask, items)) == list(items.upper())
        assert ran() == Counter(expected)


async def test_children_of_a_changed_parent_are_kept(tmp_path: Path) -> None:
    async def search(topics: str) -> list[str]:
        return [await here().add(ask, topic).result() for topic in topics]

    for topics, expected in (("ab", "ab"), ("xab", "x"), ("xab", "")):
        graph = TaskGraph(journal=tmp_path / "run.db", resume=True)
        assert await graph.run(graph.add(search, topics)) == list(topics.upper())
        assert ran() == Counter(expected)


def prompting(prompt: str) -> Callable[[], Any]:
    async def asking() -> str:
        return await ask(prompt)

    return asking


def decorated(function: Callable[..., Any], prompt: str) -> Callable[[], Any]:
    @wraps(function)
    async def inner() -> Any:
        return await function(prompt)

    return inner


@dataclass
class Asks:
    prompt: str

    async def __call__(self) -> str:
        return await ask(self.prompt)

    async def method(self) -> str:
        return await ask(self.prompt)


@pytest.mark.parametrize(
    "make",
    [
        prompting,
        Asks,
        partial(decorated, ask),
        lambda prompt: Asks(prompt).method,
        lambda prompt: partial(ask, prompt),
    ],
)
async def test_a_function_is_known_by_what_it_holds(tmp_path: Path, make: Any) -> None:
    for prompts, expected in (("ab", "ab"), ("ba", ""), ("bc", "c")):
        graph = TaskGraph(journal=tmp_path / "run.db", resume=True)
        tasks = [graph.add(make(prompt)) for prompt in prompts]
        await graph.run()
        assert [task.value for task in tasks] == list(prompts.upper())
        assert ran() == Counter(expected)


def version(number: int) -> Callable[[], Any]:
    source = f"async def work():\n    CALLS['work'] += 1\n    return {number}\n"
    names: dict[str, Any] = {"CALLS": CALLS, "__name__": __name__}
    exec(source, names)
    work: Callable[[], Any] = names["work"]
    return work


async def test_a_function_of_other_code_runs_again_unless_its_version_stays(
    tmp_path: Path,
) -> None:
    for number, mark, value, calls in ((1, None, 1, 1), (2, None, 2, 1), (2, None, 2, 0)):
        graph = TaskGraph(journal=tmp_path / "code.db", resume=True)
        assert await graph.run(graph.add(version(number), version=mark)) == value
        assert ran().get("work", 0) == calls
    for number, mark, value, calls in ((1, "v1", 1, 1), (2, "v1", 1, 0), (3, "v2", 3, 1)):
        graph = TaskGraph(journal=tmp_path / "version.db", resume=True)
        assert await graph.run(graph.add(version(number), version=mark)) == value
        assert ran().get("work", 0) == calls


async def test_a_key_names_a_task_but_does_not_hide_a_change(tmp_path: Path) -> None:
    async def parent(prompts: dict[str, str]) -> list[str]:
        tasks = [here().add(ask, prompt, key=key) for key, prompt in prompts.items()]
        return [await task.result() for task in tasks]

    for prompts, expected in (
        ({"x": "same", "y": "same"}, {"same": 2}),
        ({"y": "same", "x": "other"}, {"other": 1}),
    ):
        graph = TaskGraph(journal=tmp_path / "run.db", resume=True)
        value = await graph.run(graph.add(parent, prompts))
        assert value == [prompt.upper() for prompt in prompts.values()]
        assert ran() == expected


async def test_a_strict_resume_shows_the_difference(tmp_path: Path) -> None:
    graph, end = asked(tmp_path / "run.db", ["a", "b"])
    await graph.run(end)
    graph, end = asked(tmp_path / "run.db", ["a", "b"], resume="strict")
    assert await graph.run(end) == "A B"
    for prompts, words in ((["a", "x"], r"'x'.*has 2 \(ask\)"), (["a"], r"has 2 \(ask\)")):
        graph, end = asked(tmp_path / "run.db", prompts, resume="strict")
        with pytest.raises(InvalidValue, match=words):
            await graph.run(end)
    assert ran() == {"a": 1, "b": 1, "join": 1}


async def test_what_depends_on_a_task_that_runs_again_runs_again(tmp_path: Path) -> None:
    async def flaky() -> str:
        CALLS["flaky"] += 1
        if state["down"]:
            raise ConnectionError("down")
        return "up"

    async def look() -> str:
        CALLS["look"] += 1
        return "looked"

    state = {}
    for state["down"], expected in (
        (True, {"flaky": 1, "look": 1}),
        (False, {"flaky": 1, "look": 1, "up": 1}),
    ):
        graph = TaskGraph(journal=tmp_path / "run.db", resume=True, again=("failed",))
        first = graph.add(flaky)
        needs = graph.add(ask, first)
        graph.add(look, after={first: "completion"})
        await graph.run()  # the failure was waited for
        assert ran() == expected
    assert needs.value == "UP"


# ---- a program edited at random between a crash and its resume -----------------------------------

Tree = tuple[tuple[str, tuple[str, ...]], ...]
TREES = st.lists(
    st.tuples(st.sampled_from("abcd"), st.lists(st.sampled_from("uvwx"), max_size=3).map(tuple)),
    max_size=4,
).map(tuple)


async def leaf(name: str, above: str) -> str:
    await anyio.sleep(DELAYS.random() / 2000)
    CALLS[above, name] += 1
    if COUNTDOWN and sum(CALLS.values()) >= COUNTDOWN[0]:
        raise Crash
    return f"{above}{name}"


DELAYS = random.Random(0)
COUNTDOWN: list[int] = []


async def branch(name: str, leaves: tuple[str, ...]) -> list[str]:
    found: dict[int, str] = {}

    async def follow(place: int, leaf_name: str) -> None:
        await anyio.sleep(DELAYS.random() / 2000)  # so that timing decides who is added first
        found[place] = await here().add(leaf, leaf_name, name).result()

    async with anyio.create_task_group() as group:
        for place, leaf_name in enumerate(leaves):
            group.start_soon(follow, place, leaf_name)
    return [found[place] for place in sorted(found)]


async def grow(path: Path | None, tree: Tree) -> tuple[Any, dict[Any, int]]:
    graph = TaskGraph(journal=path, resume=True) if path else TaskGraph()
    branches = [graph.add(branch, name, leaves) for name, leaves in tree]
    try:
        await graph.run()
    except Crash:
        return None, ran()
    return [task.value for task in branches], ran()


@settings(max_examples=60, deadline=None)
@given(TREES, TREES, st.integers(1, 12), st.integers(0, 99))
def test_a_resume_of_an_edited_program_equals_a_run_anew(
    tmp_path_factory: pytest.TempPathFactory, before: Tree, after: Tree, limit: int, seed: int
) -> None:
    path = tmp_path_factory.mktemp("grown") / "run.db"
    DELAYS.seed(seed)
    CALLS.clear()
    COUNTDOWN[:] = [limit]
    value, first = anyio.run(grow, path, before)
    COUNTDOWN.clear()
    got, second = anyio.run(grow, path, after)
    expected, _ = anyio.run(grow, None, after)
    assert got == expected
    if before == after:
        done = sum(first.values()) + sum(second.values())
        assert done <= sum(len(leaves) for _, leaves in after) + len(first)
    if value is not None and before == after:
        assert second == {}


# ---- what comes back is what was returned --------------------------------------------------------

Pair = namedtuple("Pair", "first second")


class Colour(enum.Enum):
    RED = "r"


@dataclass(frozen=True)
class Meters:
    size: float


@dataclass(frozen=True)
class Feet:
    size: float
    kind: str = field(init=False, default="feet")


class Model(BaseModel):
    size: Meters | Feet
    other: int | None = None


VALUES: list[Any] = [
    *(None, True, 2, 2**70, 2**20_000, -0.0, float("inf"), "\ud800", b"\xff", 1 + 2j, range(3)),
    *((1, (2,)), {1, 2}, frozenset("ab"), {1: "a", None: 2}, {"$": 1}, [({"a": (1,)},)]),
    *(datetime.date(2026, 1, 2), datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)),
    *(datetime.timedelta(1, 2, 3), datetime.time(1, 2, fold=1), decimal.Decimal("1.10")),
    *(Path("a/b"), Pair(1, 2), Colour.RED, Meters(1.0), Feet(1.0), [Meters(2), Feet(2)]),
    Model(size=Feet(3)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    again = from_json(to_json(value, "1"))
    assert type(again) is type(value)
    assert again == value
    assert isinstance(value, (int, set, frozenset)) or repr(again) == repr(value)


def test_not_a_number_and_the_fields_that_were_set_come_back() -> None:
    assert repr(from_json(to_json(float("nan"), "1"))) == "nan"
    assert from_json(to_json(Model(size=Feet(3)), "1")).model_fields_set == {"size"}


@pytest.mark.parametrize("kind", [bool, int])
async def test_results_of_map_and_reduce_come_back_typed(tmp_path: Path, kind: type) -> None:
    async def measure(number: int) -> Any:
        return Meters(kind(number))

    async def largest(sizes: list[Any]) -> Any:
        return max(sizes, key=lambda size: size.size)

    for _ in range(2):
        graph = TaskGraph(journal=tmp_path / "run.db", resume=True)
        sizes = graph.map(measure, range(3))
        best = graph.reduce(largest, sizes, arity=2)
        with contextlib.suppress(Crash):
            await graph.run(best)
        assert sizes.value == [Meters(kind(number)) for number in range(3)]
        assert type(best.value) is Meters


async def test_what_would_not_come_back_is_refused_and_others_go_on(tmp_path: Path) -> None:
    @dataclass
    class Local:
        x: int

    async def local() -> Any:
        return [Local(1)]

    async def annotated() -> Any:
        return Local(1)

    annotated.__annotations__["return"] = Local

    graph = TaskGraph(journal=tmp_path / "run.db")
    bad, good, known = graph.add(local), graph.add(ask, "a"), graph.add(annotated)
    with pytest.raises(InvalidValue, match=r"result of task 1 can't be journaled .*Local"):
        await graph.run()
    assert (bad.state, good.value, known.value) == ("failed", "A", Local(1))
    graph = TaskGraph(journal=tmp_path / "run.db", resume=True)
    graph.add(local).acknowledge()
    assert await graph.run(graph.add(annotated)) == Local(1)


class Refused(Exception):
    def __init__(self, status: int, *, headers: dict[str, str]) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.headers = headers


ERRORS: list[Exception] = [
    ConnectionError("down"),
    FileNotFoundError(2, "no such file", "a.txt"),
    KeyError("k"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    Refused(503, headers={"Retry-After": "1"}),
    ExceptionGroup("two", [ValueError(1), Refused(500, headers={})]),
    InvalidValue("mend it"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_comes_back_so_that_except_and_retry_work(error: Exception) -> None:
    again = from_json(error_to_json(error))
    assert isinstance(again, type(error))
    assert (str(again), vars(again)) == (str(error), vars(error))
    assert Retry(on=(type(error).__name__,)).covers(again)


def test_an_error_of_a_class_that_is_gone_is_caught_by_its_base() -> None:
    class Gone(ConnectionError):
        pass

    again = from_json(error_to_json(Gone("away")))
    assert isinstance(again, ConnectionError)
    assert (type(again).__name__, str(again)) == ("Gone", "away")


# ---- budgets -------------------------------------------------------------------------------------


async def test_what_was_spent_before_a_crash_counts_also_of_what_had_not_ended(
    tmp_path: Path,
) -> None:
    async def spend(then: float) -> None:
        task = current_task()
        assert task is not None
        task.spend(tokens=40)
        await anyio.sleep(then)

    for spent in (80, 160):
        graph = TaskGraph(journal=tmp_path / "run.db", resume=True)
        with Budget(tokens=200) as budget:
            for _ in range(2):
                graph.add(spend, 100).acknowledge()
        with anyio.move_on_after(0.1):
            await graph.run()
        assert budget.spent["tokens"] == spent


# ---- the file under trouble ----------------------------------------------------------------------


async def test_a_locked_journal_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hold(seconds: float, held: threading.Event) -> None:
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("BEGIN IMMEDIATE")
            held.set()
            time.sleep(seconds)

    async def locked(seconds: float) -> None:
        held = threading.Event()
        thread = threading.Thread(target=hold, args=(seconds, held))
        thread.start()
        await anyio.to_thread.run_sync(held.wait)
        try:
            graph, end = asked(path, ["a", f"{seconds}"])
            await graph.run(end)
        finally:
            await anyio.to_thread.run_sync(thread.join)

    path = tmp_path / "run.db"
    graph, end = asked(path, ["a"])
    await graph.run(end)
    await locked(0.3)
    monkeypatch.setattr(store, "PATIENCE_S", 0.1)
    with pytest.raises(JournalUnusable, match=r"locked by another process .* and resume"):
        await locked(0.4)


async def test_a_journal_in_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    graph, end = asked(tmp_path / "no" / "run.db", ["a"])
    with pytest.raises(JournalUnusable, match=r"can't be opened .*make its folder"):
        await graph.run(end)


async def test_a_full_disk_ends_the_run_and_what_was_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    graph = TaskGraph(journal=path)
    opened: list[Any] = []
    real = sqlite3.connect

    def connect(*args: Any, **options: Any) -> Any:
        opened.append(real(*args, **options))
        return opened[0]

    def fill(_: str) -> str:
        time.sleep(0.1)  # so that what has ended is written
        opened[0].execute("PRAGMA max_page_count = 30")
        return "x" * 300_000

    graph.add(fill, graph.add(ask, "a"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.sqlite3, "connect", connect)
        with pytest.raises(JournalUnusable, match=r"full.*free space on its disk, and resume"):
            await graph.run()
    ran()
    graph = TaskGraph(journal=path, resume=True)
    assert await graph.run(graph.add(ask, "a")) == "A"
    assert ran() == {}


async def test_a_journal_copied_alone_goes_on_and_says_what_may_be_missing(
    tmp_path: Path,
) -> None:
    path, alone = tmp_path / "run.db", tmp_path / "alone.db"
    graph, _ = asked(path, ["a", "b"])
    graph.add(anyio.sleep, 1)

    async def copy() -> None:
        await anyio.sleep(0.5)
        shutil.copy(path, alone)

    async with anyio.create_task_group() as group:
        group.start_soon(copy)
        await graph.run()
    ran()
    graph, end = asked(alone, ["a", "b"])
    with pytest.warns(RuntimeWarning, match=r"no alone.db-wal beside it"):
        assert await graph.run(end) == "A B"
    assert ran() == {}


async def test_a_damaged_byte_is_told_and_never_believed(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    graph, end = asked(path, ["first prompt", "second prompt"])
    await graph.run(end)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"FIRST PROMPT", b"FIRST_PROMPT"))
    assert path.read_bytes() != data
    graph, end = asked(path, ["first prompt", "second prompt"])
    with pytest.raises(JournalUnusable, match=r"damaged .*restore a copy"):
        await graph.run(end)


async def test_a_flipped_bit_anywhere_gives_right_values_or_is_told(tmp_path: Path) -> None:
    prompts = [f"value {number}" for number in range(20)]
    graph, end = asked(tmp_path / "run.db", prompts)
    right = await graph.run(end)
    data, rng = (tmp_path / "run.db").read_bytes(), random.Random(1)
    for number in range(20):
        flipped = bytearray(data)
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path = tmp_path / f"{number}.db"
        path.write_bytes(flipped)
        graph, end = asked(path, prompts)
        with contextlib.suppress(JournalUnusable):
            assert await graph.run(end) == right


async def test_names_and_numbers_that_sqlite_has_not_harm_no_neighbour(tmp_path: Path) -> None:
    async def fail() -> None:
        task = current_task()
        assert task is not None
        task.charge(2**70)
        raise ValueError("\ud800")

    for _ in range(2):
        graph, end = asked(tmp_path / "run.db", ["a"])
        graph.add(fail, name="\udfff").acknowledge()
        assert await graph.run(end) == "A"
    assert ran() == {"a": 1, "join": 1}
