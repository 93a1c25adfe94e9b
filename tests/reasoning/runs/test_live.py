"""Runs as they happen: what a page hears, from this program or another, in a real browser too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from click.testing import CliRunner

from reasoning.cli import main
from reasoning.runs.live.live_page import LivePage, PageNews
from reasoning.runs.live.live_run import LiveRun
from reasoning.runs.live.live_runs import LiveRuns
from reasoning.runs.live.telling import SOCKET, listen, shown
from reasoning.runs.page import run_data
from reasoning.runs.store import RunStore
from tests.support.browser import Browser, browsing
from tests.support.kept_tools import kept, thread
from tests.support.live_pages import KEY, begun, closes, opens, served, writes

HOSTILE = "</script><script>window.caught=1</script><img/src=x/onerror=caught=2> "
ROWS = (
    "[...document.querySelectorAll('.row')].map(row => row.querySelector('b').textContent).join()"
)
DETAIL = "document.querySelector('#detail').textContent"


def final(run: LiveRun) -> Any:
    return run_data(kept([thread("1"), thread("1.1")], id=run.id))


async def all_news(page: LivePage) -> list[PageNews]:
    return [news async for news in page.news()]


def test_who_looks_on_hears_the_page_then_what_changes_then_the_end() -> None:
    async def follow() -> list[PageNews]:
        run, heard = begun(), []
        opens(run, "1")
        writes(run, "1", "I ", "think ")
        async for news in run.news():
            heard.append(news)
            if len(heard) == 1:
                writes(run, "1", "it is 7. ")
                opens(run, "1.1")
            elif len(heard) == 2:
                run.end(final(run))
        return heard

    first, second, last = anyio.run(follow)
    assert (first.kind, second.kind, last.kind) == ("page", "lanes", "page")
    assert first.value["lanes"][0]["text"] == "I think "
    assert [(one["id"], one["more"], one["kind"]) for one in second.value] == [
        ("1", "it is 7. ", "running"),
        ("1.1", "", "running"),
    ]
    assert last.value["over"] is True
    assert last.value["unit"] == "tokens"


def test_a_secret_is_hidden_however_it_is_cut_into_tokens() -> None:
    run = begun(settings={"api_key": KEY}, question=f"Is {KEY} good?")
    opens(run, "1")
    writes(run, "1", "It ", "is cor", "rect-horse", "-batt", "ery", ", no ", "more")
    closes(run, "1", KEY)
    told = json.dumps(run.whole())
    assert KEY not in told
    assert run.whole()["lanes"][0]["text"] == "It is [hidden], no more"
    assert run.whole()["heading"] == "Is [hidden] good?"


def test_a_run_is_shown_in_another_program_as_in_its_own(tmp_path: Path) -> None:
    async def both() -> tuple[list[PageNews], str]:
        live, path, run = LiveRuns(keeps=True), tmp_path / SOCKET, begun()
        async with anyio.create_task_group() as group:
            await group.start(listen, path, live)
            async with shown(path, run):
                opens(run, "1")
                async for _ in live.changes():
                    if (page := live.find(run.id)) is not None:
                        break
                writes(run, "1", "It is 7. ")
                closes(run, "1")
                run.end(final(run))
                heard = await all_news(page)
            async for _ in live.changes():
                if live.find(run.id) is None:
                    break
            group.cancel_scope.cancel()
        return heard, run.id

    heard, id = anyio.run(both)
    assert heard[-1].kind == "page"
    assert id in heard[-1].value["about"]


def test_a_program_that_is_killed_leaves_its_page_as_it_was() -> None:
    run = begun()
    opens(run, "1")
    run.end(None)
    heard = anyio.run(all_news, run)
    assert [one.kind for one in heard] == ["page", "gone"]


def test_solve_goes_on_where_nobody_listens_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (folder := tmp_path / "reason").mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / SOCKET))
    done = CliRunner().invoke(main, ["solve", "Compute 2 + 3"])
    assert (done.exit_code, done.stdout.strip()) == (0, "5")


def test_solve_shows_its_run_under_the_id_that_it_is_kept_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    shown: list[str] = []

    class Seen(LiveRuns):
        def add(self, id: str, page: LivePage) -> None:
            shown.append(id)
            super().add(id, page)

    path = tmp_path / "reason" / SOCKET
    with start_blocking_portal() as portal:
        listening, _ = portal.start_task(listen, path, Seen(keeps=True))
        done = CliRunner().invoke(main, ["solve", "Compute 2 + 3"])
        assert CliRunner().invoke(main, ["solve", "Compute 2 + 4", "--no-keep"]).exit_code == 0
        listening.cancel()
    assert done.stderr.strip().endswith(f"run {shown[0]}")
    assert len(shown) == 1


def until(tab: Browser, condition: str) -> None:
    """Wait until something is so on the page."""
    tab.run(
        f"new Promise(go => {{ const look = () => {condition} ? go() : setTimeout(look, 20); "
        "look(); })"
    )


def test_a_page_follows_its_run_from_the_first_word_to_the_answer(tmp_path: Path) -> None:
    store, run = RunStore(tmp_path / "runs.db"), begun(question=HOSTILE)
    store.add(kept([thread("1")], problem="An earlier one"))
    with browsing(tmp_path / "browser") as tab, served(store) as (portal, live, url):
        tab.look(1280, 800)
        tab.visit(f"{url}/ui")
        until(tab, "document.querySelectorAll('#runs li').length === 1")
        portal.call(live.add, run.id, run)
        until(tab, "document.querySelectorAll('#runs li').length === 2")
        assert "● running" in tab.run("document.querySelector('#runs li').textContent")
        link = tab.run("document.querySelector('#runs a').getAttribute('href')")
        tab.visit(f"{url}{link}")
        until(tab, "document.querySelector('#live').textContent === '● live'")
        portal.call(opens, run, "1")
        portal.call(opens, run, "1.1")
        portal.call(writes, run, "1.1", HOSTILE, "so it ")
        until(tab, f"{ROWS} === '1,1.1'")
        assert tab.run("document.querySelector('#ends').hidden"), "a menu of one choice"
        tab.run("location.hash = '#1.1'")
        until(tab, f"{DETAIL}.includes('so it')")
        tab.run("document.querySelector('#search').value = 'so it'")
        portal.call(writes, run, "1.1", "is 7. ")
        until(tab, f"{DETAIL}.includes('so it is 7.')")
        assert tab.run("document.querySelector('.row:last-of-type .sign').textContent") == "▶"
        portal.call(closes, run, "1.1")
        portal.call(lambda: run.end(final(run)))
        until(tab, "document.querySelector('#answer').textContent === '7 ✓ verified'")
        assert tab.run("location.hash") == "#1.1"
        assert tab.run("document.querySelector('#search').value") == "so it"
        assert tab.run("document.querySelector('#live').textContent") == ""
        assert tab.run("window.caught") is None
        assert tab.faults == []
        assert all(one.startswith(url.replace(f"me:{KEY}@", "")) for one in tab.fetched)


def test_a_page_says_when_its_program_has_left(tmp_path: Path) -> None:
    run = begun()
    with (
        browsing(tmp_path / "browser") as tab,
        served(RunStore(tmp_path / "runs.db")) as (portal, live, url),
    ):
        portal.call(live.add, run.id, run)
        tab.visit(f"{url}/ui/runs/{run.id}")
        until(tab, "document.querySelector('#live').textContent === '● live'")
        portal.call(run.end, None)
        until(tab, "document.querySelector('#live').textContent.includes('without an end')")
