"""The documents as a site: links, what they tell one to type, and the pages that MkDocs makes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
import yaml

from reasoning import STRATEGIES
from reasoning.cli import main
from reasoning.language.native.catalog import read_format
from tests.support import option_tables

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = {"index", "changelog", "contributing", "security", "code-of-conduct"}
GENERATED |= {f"reference/{name}" for name in ("reasoning", "orchestrator", "pruning", "protocol")}
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def prose(page: Path) -> str:
    return FENCED.sub("", page.read_text())


def slug(title: str) -> str:
    """A heading's anchor, as hosts of Git repositories make it and mkdocs.yml says."""
    shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
    return re.sub(r"[^\w\- ]", "", shown).strip().replace(" ", "-")


@cache
def anchors(page: Path) -> set[str]:
    return {slug(title) for title in re.findall(r"^#+ (.+)$", prose(page), re.M)}


def dead_links(page: Path) -> Iterator[str]:
    for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", prose(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pages
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    assert list(dead_links(page)) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A *title*\n[x](#a-title) [y](#b) [z](gone.md) ```[w](gone.md)```\n")
    assert list(dead_links(page)) == ["#b", "gone.md", "gone.md"]


def test_every_page_stands_in_the_navigation_once() -> None:
    named = re.findall(r": ([\w/-]+)\.md$", (ROOT / "mkdocs.yml").read_text(), re.M)
    written = {
        str(page.relative_to(ROOT / "docs").with_suffix(""))
        for page in (ROOT / "docs").rglob("*.md")
    }
    assert sorted(named) == sorted(written | GENERATED)


def test_every_strategy_has_a_page() -> None:
    for name in STRATEGIES.names:
        page = (ROOT / "docs" / "strategies" / f"{name}.md").read_text()
        for part in (f"# `{name}`", "```text", "--strategy"):
            assert part in page or name == "atts", f"{name}: {part}"


def commands(page: Path) -> Iterator[str]:
    """What a page's blocks for terminals have typed that begins with ``reason``."""
    for kind, block in FENCED.findall(page.read_text()):
        if kind in ("bash", "console"):
            lines = block.replace("\\\n", " ").splitlines()
            yield from (line for line in lines if re.match(r"(\$ )?reason [a-z]", line))


@pages
def test_commands_that_are_shown_have_these_options(page: Path) -> None:
    every = option_tables.commands(main)
    for line in commands(page):
        words = shlex.split(line.removeprefix("$ "), comments=True)[1:]
        words = words[: words.index(">")] if ">" in words else words
        words = words[: words.index("<")] if "<" in words else words
        name = next(
            name for length in (2, 1) if (name := " ".join(words[:length])) in every
        )  # StopIteration: there is no such command
        command = every[name]
        parser = command.make_parser(click.Context(command, resilient_parsing=True))
        parser.parse_args(words[len(name.split()) :])


def test_the_dialect_that_is_shown_is_one(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "own-dialect.md").read_text()
    (text,) = (code for kind, code in FENCED.findall(page) if kind == "toml")
    (tmp_path / "mine.toml").write_text(text)
    assert read_format(tmp_path / "mine.toml").fork.at == ("</Plan>",)


def test_forms_and_citation_have_what_their_readers_need() -> None:
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text())
        if path.stem != "config":
            assert {"name", "description", "body"} <= form.keys()
            ids = [part["id"] for part in form["body"]]
            assert len(ids) == len(set(ids))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert "version" not in citation  # it stands in pyproject.toml alone


def test_the_image_is_made_of_files_that_are_there() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.M)
    let_in = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.M)
    assert {name for line in copied for name in line.split()} == set(let_in)
    assert all((ROOT / name).exists() for name in let_in)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (asked,) = re.findall(r"'\.\[([\w,]+)\]'", (ROOT / "Dockerfile").read_text())
    assert set(asked.split(",")) <= project["optional-dependencies"].keys()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mkdocs") is None, reason="the extra site is not installed")
def test_the_site_builds_strictly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    home = (tmp_path / "site" / "index.html").read_text()
    assert "strategies/apr.html" in home
    assert not re.search(r"<div[^>]+role=\"dialog\">", home)
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=\"https?:", home)
    for package in ("reasoning", "orchestrator", "pruning", "protocol"):
        assert (tmp_path / "site" / "reference" / f"{package}.html").stat().st_size > 10_000
