"""What native runs cost and save, by their authors' formulas, worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reasoning.language.native.dialect import NativeDialect
from tests.support.native_tools import END, native_dialect, transcribe

pytestmark = pytest.mark.anyio


@pytest.fixture
def dialect(tmp_path: Path) -> Callable[[str], NativeDialect]:
    return lambda name: native_dialect(tmp_path, name)


async def test_threadweaver_is_counted_by_its_tags(
    dialect: Callable[[str], NativeDialect],
) -> None:
    before, plan = "<think>\nTwo.\n<Parallel>", "\n<Outlines>\n<Outline>1: a</Outline>\n"
    plan += "<Outline>2: b</Outline>\n</Outlines>"
    one, two = " one", " two, which is longer"
    after = f"</Parallel>\nSo 3.\n</think>\n\\boxed{{3}}{END}"
    script = {
        "assistant\n": before + plan,
        "<Thread>\n1:": f"{one}</Thread>",
        "<Thread>\n2:": f"{two}</Thread>",
        "longer</Thread>\n": after,
    }
    found = await transcribe(dialect("threadweaver"), script)
    counted = found.solution.parallel
    assert counted is not None

    def count(*texts: str) -> int:
        return sum(len(found.ids(text)) for text in texts)

    outside = count(before, after)
    beside = count(plan, "\n", "\n") + 4  # the tags of both threads, and two line breaks
    interiors = [count("\n", "1:", one), count("\n", "2", ":", two)]
    assert counted.tokens == outside + beside + sum(interiors)
    assert counted.longest_thread == outside + beside + max(interiors)
    assert counted.parallel_tokens == beside + sum(interiors)
    assert counted.written == count(before, plan, one, two, after) + 2
    assert counted.critical_path == count(before, plan, two, after) + 1
    report = found.solution.to_dict()["parallel"]
    assert report["acceleration"] == round(min(interiors) / counted.tokens, 4)
    assert report["parallel_ratio"] == round(1 - outside / counted.tokens, 4)


async def test_multiverse_is_counted_by_its_longest_chain(
    dialect: Callable[[str], NativeDialect],
) -> None:
    plan = "<Think><Goal><Outline>1: a</Outline><Outline>2: b</Outline></Goal>"
    one, two, rest = " one</Path>", " two, longer</Path>", f"both</Think> \\boxed{{3}}{END}"
    script = {
        "assistant\n": plan,
        "<Path>\n1:": one,
        "<Path>\n2:": two,
        one: "\n",
        two: "\n",
        "<Conclusion>\n": rest,
    }
    found = await transcribe(dialect("multiverse"), script, "kv-join")
    counted = found.solution.parallel
    assert counted is not None

    def count(*texts: str) -> int:
        return sum(len(found.ids(text)) for text in texts)

    assert counted.written == count(plan, one, two, rest) + 2  # a token behind each path
    assert counted.critical_path == count(plan, two, rest) + 1
    assert counted.degree == counted.written / counted.critical_path
    assert counted.longest_thread == counted.critical_path + count("<Path>\n2:", "<Conclusion>\n")


async def test_tags_of_a_fork_that_was_refused_count_as_nothing_saved(
    dialect: Callable[[str], NativeDialect],
) -> None:
    plan = "<think><Parallel>\n<Outlines>\n<Outline>1: a</Outline>\n</Outlines>"
    rest = f"\n<Thread>\n1: one</Thread>\n</Parallel>\n</think>\n\\boxed{{3}}{END}"
    found = await transcribe(
        dialect("threadweaver"),
        {"assistant\n": plan, "</Outlines>": rest},
        strategy="native:rounds=0",
    )
    assert found.solution.forked is False
    counted = found.solution.parallel
    assert counted is not None
    assert (counted.acceleration, counted.parallel_ratio, counted.degree) == (0, 0, 1)


async def test_a_run_that_did_not_fork_saved_nothing(
    dialect: Callable[[str], NativeDialect],
) -> None:
    script = {"assistant\n": f"<think>\nEasy.\n</think>\n\\boxed{{3}}{END}"}
    counted = (await transcribe(dialect("threadweaver"), script)).solution.parallel
    assert counted is not None
    assert counted.tokens == counted.longest_thread == counted.written == counted.critical_path
    assert (counted.acceleration, counted.parallel_ratio, counted.degree) == (0, 0, 1)
