"""The page of a run, in a real browser: found, folded, linked, hostile and large."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import InvalidValue
from reasoning.runs.beside import compared_page
from reasoning.runs.page import run_data, run_page
from reasoning.runs.record import RecordedRun
from tests.support.browser import Browser, browsing
from tests.support.kept_tools import kept, thread

SHOWN = "[...document.querySelectorAll('.row')].map(row => row.querySelector('b').textContent)"
FRAME = (
    "new Promise(go => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(go))))"
)
"""Waits until what was asked for is drawn."""
HOSTILE = (
    "</script><script>window.caught = 1</script><img src=x onerror='caught=2'>\x1b[2J\u202e{{data}}"
)

LONG = "21-3=18, 23-18=5, 10*5=50, which is what was to be made of these four numbers"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


@pytest.fixture(autouse=True)
def nothing_goes_wrong(tab: Browser) -> Iterator[None]:
    """No page throws, and none asks for anything."""
    tab.look(1280, 800)
    yield
    assert tab.faults == []
    assert tab.fetched == []


def family() -> RecordedRun:
    """A parent with three children, one of which has a child, and a branch beside it."""
    return kept(
        [
            thread("1", stretches=((0, 10), (40, 50)), text="Is it 7 ? No , 8 . So 7", tokens=20),
            thread("1.1", stretches=((10, 30),), answer=None, text="a dead end"),
            thread("1.2", stretches=((10, 40),), answer="9", text="I say nine, 9."),
            thread("1.2.1", stretches=((20, 25),), text="deep inside"),
            thread("1.3", stretches=((10, 20),), ending="stopped", state="cancelled"),
            thread("2", stretches=((0, 15),), why="stopped by the policy: settled", text="late"),
        ],
        votes={"7": 2, "9": 1},
    )


def show(tab: Browser, run: RecordedRun, folder: Path, fragment: str = "") -> None:
    (page := folder / "page.html").write_text(run_page(run), encoding="utf-8")
    tab.open(page, fragment)
    tab.run(FRAME)


def text(tab: Browser, where: str) -> str:
    return str(tab.run(f"document.querySelector('{where}').textContent"))


def test_question_answer_votes_and_branches_are_there(tab: Browser, tmp_path: Path) -> None:
    show(tab, family(), tmp_path)
    assert text(tab, "h1") == "What is 3 + 4?"
    assert text(tab, "#answer") == "7 ✓ verified"
    assert tab.run("[...document.querySelectorAll('#votes li')].map(one => one.textContent)") == [
        "A72 of 3",
        "B91 of 3",
    ]
    assert tab.run(SHOWN) == ["1", "1.1", "1.2", "1.2.1", "1.3", "2"]
    rows = tab.run(
        "[...document.querySelectorAll('[role=tree] [role=treeitem]')].map(row => "
        "[row.ariaLevel, row.ariaExpanded, row.querySelector('.sign').textContent])"
    )
    assert rows[0] == ["1", "true", "✓"]
    assert rows[3] == ["3", None, "✓"]
    assert rows[4][2] == "■"
    lines = "[...document.querySelectorAll('svg.links path')].map(one => one.className.baseVal)"
    assert sorted(tab.run(lines)) == ["join", "join", *["spawn"] * 4]  # what was stopped, never


def test_branches_fold_by_mouse_and_by_keys(tab: Browser, tmp_path: Path) -> None:
    show(tab, family(), tmp_path)
    tab.run("document.querySelectorAll('.foldmark')[2].click()")
    assert tab.run(SHOWN) == ["1", "1.1", "1.2", "1.3", "2"]
    tab.run("document.querySelector('#fold').click()")
    assert tab.run(SHOWN) == ["1", "2"]
    tab.run("document.querySelector('#tree').focus()")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowDown"):
        tab.press(key)
    assert tab.run("location.hash") == "#1.2"
    tab.press("ArrowRight")
    assert tab.run(SHOWN) == ["1", "1.1", "1.2", "1.2.1", "1.3", "2"]
    active = "document.getElementById(tree.getAttribute('aria-activedescendant'))"
    assert tab.run(f"tree = document.querySelector('#tree'), {active}.ariaSelected") == "true"
    for key in ("ArrowLeft", "ArrowLeft", "ArrowLeft"):
        tab.press(key)
    assert tab.run(SHOWN) == ["1", "2"]
    assert tab.run("location.hash") == "#1"


def test_a_search_shows_what_matches_with_its_parents(tab: Browser, tmp_path: Path) -> None:
    show(tab, family(), tmp_path)
    tab.press("/")
    tab.type("DEEP in")
    tab.run(FRAME)
    assert tab.run(SHOWN) == ["1", "1.2", "1.2.1"]
    assert text(tab, "#count") == "1 of 6 branches match"
    tab.run("document.querySelector('#search').value = ''")
    tab.run("document.querySelectorAll('#votes button')[1].click()")
    assert tab.run(SHOWN) == ["1", "1.2"]
    tab.run("document.querySelectorAll('#votes button')[1].click()")
    tab.run("ends = document.querySelector('#ends'), ends.value = 'none'")
    tab.run("ends.dispatchEvent(new Event('change'))")
    assert tab.run(SHOWN) == ["1", "1.1"]


def test_a_link_opens_its_branch_with_the_answer_marked(tab: Browser, tmp_path: Path) -> None:
    show(tab, family(), tmp_path, "#1.2.1")
    assert text(tab, "#detail h2").startswith("1.2.1 ")
    show(tab, family(), tmp_path, "#1")
    assert text(tab, "#detail pre") == "Is it 7 ? No , 8 . So 7"
    assert tab.run("document.querySelector('#detail mark').previousSibling.data") == (
        "Is it 7 ? No , 8 . So "
    )
    tab.run("location.hash = '#2'")
    tab.run(FRAME)
    assert "stopped by the policy: settled" in text(tab, "#detail")
    tab.press("Escape")
    assert tab.run("document.querySelector('#detail').hidden") is True
    assert tab.run("location.hash") == ""


def test_two_runs_stand_beside_each_other_on_one_page(tab: Browser, tmp_path: Path) -> None:
    other = kept(
        [thread("1", text="It is 9.", answer="9"), thread("2", text="It is 7.")],
        id="beef0bad",
        answer="9",
        verified=False,
        votes={"9": 1, "7": 1},
        strategy="single",
    )
    (page := tmp_path / "page.html").write_text(compared_page(family(), other), encoding="utf-8")
    tab.open(page)
    tab.run(FRAME)
    assert text(tab, "h1") == "What is 3 + 4?"
    assert text(tab, "#answer") == "0bad: 7 ✓ verifiedbeef: 9 ✗ rejected by the verifier"
    assert tab.run("[...document.querySelectorAll('#votes li')].map(one => one.textContent)") == [
        "A70bad: 2 of 3 · beef: 1 of 2",
        "B90bad: 1 of 3 · beef: 1 of 2",
    ]
    table = tab.run(
        "Object.fromEntries([...document.querySelectorAll('#compared tbody tr')].map(row => "
        "[row.cells[0].firstChild.data, [row.className, ...[...row.cells].slice(1)"
        ".map(one => one.textContent)]]))"
    )
    assert table["branches"] == ["differs", "6", "2"]
    assert table["work"] == ["", "10 tokens", "10 tokens"]
    first = ["", ".1", ".1.1", ".1.2", ".1.2.1", ".1.3", ".2"]
    assert tab.run(SHOWN) == [*(f"0bad{one}" for one in first), "beef", "beef.1", "beef.2"]
    chips = "[...document.querySelectorAll('.row .chip')].map(one => one.textContent).join('')"
    assert tab.run(chips) == "ABAAABA"
    assert "~ strategy was self-consistency and is single" in text(tab, "#notes-body")


def test_an_answer_is_marked_whatever_its_spaces(tab: Browser, tmp_path: Path) -> None:
    run = kept([thread("1", text="so 23 - 18 = 5 , and (23-18)=5 . end", answer="(23 - 18) = 5")])
    show(tab, run, tmp_path, "#1")
    assert text(tab, "#detail mark") == "(23-18)=5"


def test_what_models_write_stays_text(tab: Browser, tmp_path: Path) -> None:
    threads = [thread("1", text=HOSTILE, name=HOSTILE, answer=HOSTILE, why=HOSTILE)]
    settings = {"system": HOSTILE}
    run = kept(threads, problem=HOSTILE, answer=HOSTILE, votes={HOSTILE: 1}, settings=settings)
    show(tab, run, tmp_path, "#1")
    shown = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\x202e")
    assert text(tab, "h1") == shown
    assert text(tab, "#detail pre") == shown
    assert tab.run("window.caught") is None
    assert tab.run("document.querySelectorAll('img, script').length") == 2  # its data and its own


def test_a_small_screen_needs_no_sideways_scrolling(tab: Browser, tmp_path: Path) -> None:
    for width in (360, 3840):
        tab.look(width, 740)
        run = kept([thread("1", answer=LONG), thread("2")], answer=LONG, votes={LONG: 1, "7": 1})
        show(tab, run, tmp_path, "#1")
        assert tab.run("document.documentElement.scrollWidth") <= width
        header = "document.querySelector('header')"
        assert tab.run(f"{header}.scrollWidth <= {header}.clientWidth")
        assert tab.run("document.querySelector('.row').getBoundingClientRect().right") <= width


def test_ten_thousand_branches_stay_usable(tab: Browser, tmp_path: Path) -> None:
    words = "It is seven, as far as I can see. " * 6
    threads = [thread("1", stretches=((0, 9), (90, 99)))]
    threads += [
        thread(f"1.{n}", text=f"{words} {n}", answer=str(n % 40), stretches=((9, 10 + n % 80),))
        for n in range(1, 10_000)
    ]
    show(tab, kept(threads), tmp_path)
    assert tab.run("document.querySelectorAll('.row').length") < 80
    assert text(tab, "#count") == "10,000 of 10,000 branches shown"
    tab.run("document.querySelector('#tree').scrollTop = 150000")
    tab.run(FRAME)
    assert "1.5000" in tab.run(SHOWN)
    tab.run("location.hash = '#1.9998'")
    tab.run(FRAME)
    assert "1.9998" in tab.run(SHOWN)
    tab.run("document.querySelector('#search').focus()")
    tab.type("see.  7777")
    tab.run(FRAME)
    assert tab.run(SHOWN) == ["1", "1.7777"]


def test_without_its_run_the_page_is_small() -> None:
    assert len(run_page(kept([]))) < 60_000


def test_a_plan_has_its_tasks_on_an_axis_of_seconds() -> None:
    tasks = [thread("a", tokens=0, answer=None, text="7"), thread("b", answer=None)]
    run = kept(tasks, command="plan", votes={}, verified=None)
    ran = run.branches[0].model_copy(update={"started": 0.5, "ended": 2.0, "after": ("b",)})
    page = run_data(run.model_copy(update={"branches": (ran, run.branches[1])}))
    assert (page["called"], page["unit"]) == ("tasks", "seconds")
    first, second = page["lanes"]
    assert (first["stretches"], first["size"], first["after"]) == ([(0.5, 2.0)], 1.5, ("b",))
    assert "stretches" not in second, "when it ran is not known"
    assert [name for name, *_ in page["facts"]][:2] == ["planner", "tasks"]


def test_runs_of_different_kinds_are_not_put_on_one_page() -> None:
    one = kept([thread("1")])
    with pytest.raises(InvalidValue, match=r"tasks .* do not fit on one page"):
        compared_page(kept([thread("1")], id="0badbeef", command="plan"), one)
