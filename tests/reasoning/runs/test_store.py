"""Where runs are kept: found again, searched, and forgotten in order."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.errors import InvalidValue, UnknownName
from reasoning.runs.store import RunFilter, RunStore
from tests.support.kept_tools import kept, thread


def fill(store: RunStore, count: int) -> None:
    for number in range(count):
        store.add(kept([thread("1")], id=f"{number:08x}", began=float(number)))


def ids(store: RunStore, which: RunFilter | None = None) -> list[int]:
    return [int(line.id, 16) for line in store.lines(which)]


def test_runs_are_listed_newest_first_and_found_by_the_beginning(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "deep" / "runs.db")
    assert store.lines() == []
    assert not store.path.exists()  # looking makes nothing
    fill(store, 3)
    assert ids(store) == [2, 1, 0]
    assert store.find("last").id == "00000002"
    assert store.find("00000001").began == 1.0
    with pytest.raises(UnknownName, match="beginning of several"):
        store.find("000")
    for name in ("ff", "%"):
        with pytest.raises(UnknownName, match="is not kept"):
            store.find(name)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_the_oldest_are_forgotten_where_there_is_no_room(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs.db")
    fill(store, 1)
    size = store.lines()[0].size
    small = RunStore(store.path, most_bytes=size * 3 + size // 2)
    fill(RunStore(store.path.with_name("other.db"), most_bytes=small.most_bytes), 9)
    assert ids(RunStore(store.path.with_name("other.db"))) == [8, 7, 6]


def test_a_run_that_is_larger_than_all_may_be_is_refused(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs.db", most_bytes=10)
    with pytest.raises(InvalidValue, match="raise --keep-mb"):
        fill(store, 1)


def test_words_are_searched_in_questions_answers_and_branches(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs.db")
    store.add(kept([thread("1", text="Straße nach Ulm")], id="00000001"))
    store.add(kept([thread("1")], id="00000002", problem="Who was Ada?", answer="a poet's child"))
    assert ids(store, RunFilter(words=("STRASSE",))) == [1]
    assert ids(store, RunFilter(words=("ada", "POET"))) == [2]
    assert ids(store, RunFilter(words=("ada", "Ulm"))) == []
    assert ids(store, RunFilter(words=("prompt_tokens",))) == []  # the record's own words


def test_a_filter_takes_strategy_model_verdict_and_time(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs.db")
    store.add(kept([thread("1")], id="00000001", began=5.0, strategy="apr", verified=False))
    store.add(kept([thread("1")], id="00000002", began=9.0, model="Big-One", verified=None))
    assert ids(store, RunFilter(strategy="apr")) == [1]
    assert ids(store, RunFilter(model="big")) == [2]
    assert ids(store, RunFilter(verified=False)) == [1]
    assert ids(store, RunFilter(since=6.0)) == [2]
    assert ids(store, RunFilter(before=6.0)) == [1]
    assert ids(store, RunFilter(command="serve")) == []


def test_forgotten_runs_free_the_disk(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs.db")
    for number in range(4):
        text = f"{number}" + "".join(
            chr(0x4E00 + (at * 7919 + number) % 20000) for at in range(30000)
        )
        store.add(kept([thread("1", text=text)], id=f"{number:08x}", began=float(number)))
    full = store.path.stat().st_size
    assert store.prune(RunFilter(before=2.0)) == 2
    assert ids(store) == [3, 2]
    assert store.prune(None, most_bytes=store.lines()[0].size) == 1
    assert ids(store) == [3]
    assert store.path.stat().st_size < full * 0.6


def test_several_may_keep_runs_at_once(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    def add(number: int) -> None:
        RunStore(path).add(kept([thread("1")], id=f"{number:08x}", began=float(number)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(24)))
    assert ids(RunStore(path)) == [*range(23, -1, -1)]


def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path: Path) -> None:
    (path := tmp_path / "runs.db").write_text("no database, but words, and more of them " * 99)
    with pytest.raises(InvalidValue, match="can't be used"):
        RunStore(path).lines()
