"""What is installed: how large the core is, and which command adds an extra to an installation."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from importlib.metadata import PathDistribution, distribution, requires
from pathlib import Path

import pytest

from orchestrator import errors

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = {"anyio", "click", "networkx", "pydantic", "rich"}
NAME = re.compile(r"[\w.-]+")
MEGABYTE = 1_000_000


def closure(names: set[str]) -> set[str]:
    """The distributions that these need, extras apart."""
    found: set[str] = set()
    wanted = set(names)
    while wanted:
        found.add(name := wanted.pop())
        for line in requires(name) or ():
            needed = NAME.match(line)
            if needed and "extra ==" not in line and "python_version <" not in line:
                wanted |= {needed[0].lower()} - found
    return found


def size(path: Path) -> int:
    """Bytes of a file, and about as many again where it is compiled when it is installed."""
    bytes = path.stat().st_size
    return int(2.3 * bytes) if path.suffix == ".py" else bytes


def test_the_core_needs_these_and_stays_below_75_megabytes() -> None:
    assert {NAME.match(line)[0] for line in PROJECT["dependencies"]} == CORE  # type: ignore[index]
    needed = [
        Path(str(one.locate_file(file)))
        for one in map(distribution, closure(CORE))
        for file in one.files or ()
    ]
    own = [
        path
        for package in ("orchestrator", "pruning", "protocol", "reasoning")
        for path in (ROOT / package).rglob("*")
    ]
    files = [path for path in {*needed, *own} if path.is_file() and path.suffix != ".pyc"]
    assert 20 * MEGABYTE < sum(map(size, files)) < 75 * MEGABYTE


def test_all_has_every_use_but_vllm() -> None:
    extras = PROJECT["optional-dependencies"]
    uses = set(extras) - {"all", "dev", "site", "vllm"}
    included = set()
    wanted = {"all"}
    while wanted:
        for line in extras[wanted.pop()]:
            if line.startswith("parallel-reason["):
                wanted |= set(line[len("parallel-reason[") : -1].split(","))
                included |= wanted
    assert included == uses


@pytest.mark.parametrize(
    ("files", "where", "hint"),
    [
        (["clone/pyproject.toml"], "clone", "pip install -e '.[local]'"),
        (["clone/pyproject.toml"], "else where", "pip install -e '{}/clone[local]'"),
        ([], "clone", "pip install 'parallel-reason[local]'"),
        (["clone/pyproject.toml", "env/uv-receipt.toml"], "clone", "uv tool install -e '.[local]'"),
        (["env/pipx_metadata.json"], "clone", "pipx install --force 'parallel-reason[local]'"),
    ],
    ids=["clone", "from elsewhere", "package", "uv tool", "pipx"],
)
def test_a_hint_fits_the_installation(
    files: list[str], where: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = tmp_path / "env" / "bin" / "pip"
    for file in [
        pip,
        tmp_path / "clone" / "orchestrator" / "errors.py",
        *map(tmp_path.joinpath, files),
    ]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (tmp_path / "else where").mkdir()
    monkeypatch.chdir(tmp_path / where)
    monkeypatch.setenv("PATH", str(pip.parent))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    monkeypatch.setattr(sys, "executable", str(pip.with_name("python")))
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "clone" / "orchestrator" / "errors.py"))
    monkeypatch.setattr(errors, "_came_from", lambda: "")
    assert errors.install_hint("local") == hint.format(tmp_path)


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("file://{}", "'{}[serve]'"),
        ("file:///gone", "'parallel-reason[serve] @ file:///gone'"),
        ("https://x.example/a.whl", "'parallel-reason[serve] @ https://x.example/a.whl'"),
    ],
    ids=["folder", "folder that is gone", "archive"],
)
def test_a_hint_names_where_the_package_came_from(
    url: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = json.dumps({"url": url.format(tmp_path), "dir_info": {}})
    monkeypatch.setattr(PathDistribution, "read_text", lambda self, name: told)
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "orchestrator" / "errors.py"))
    assert errors.install_hint("serve").endswith(f"install {source.format(tmp_path)}")


def test_a_hint_reaches_an_environment_that_is_not_active(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip").touch()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert errors.install_hint("eval").startswith(f"{tmp_path}/python -m pip install ")
    (tmp_path / "pip").unlink()
    assert errors.install_hint("eval").startswith(f"uv pip install --python {tmp_path}/python ")
