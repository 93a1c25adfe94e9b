"""What is compiled is used only whole; where it can't be, one line says why."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from reasoning.engine.decoders import compiling
from reasoning.engine.decoders.compiling import build

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "answer.cpp"
    file.write_text('extern "C" int answer() { return ANSWER; }')
    return file


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "parallel-reason"


def answer(source: Path, value: int = 42) -> int | None:
    library = build(source, {"ANSWER": value})
    return None if library is None else int(library.answer())


def library(cache: Path) -> Path:
    (found,) = cache.glob("*.so")
    return found


def replace(cache: Path, data: bytes) -> None:
    file = library(cache)
    file.unlink()  # whoever has it loaded keeps it
    file.write_bytes(data)


def halve(cache: Path) -> None:
    data = library(cache).read_bytes()
    replace(cache, data[: len(data) // 2])


def garbage(cache: Path) -> None:
    replace(cache, b"no library")


def forget_digest(cache: Path) -> None:
    next(cache.glob("*.sha256")).unlink()


def test_what_was_compiled_is_kept(source: Path, cache: Path) -> None:
    assert answer(source) == 42
    written = library(cache).stat().st_mtime_ns
    assert answer(source) == 42
    assert library(cache).stat().st_mtime_ns == written
    assert answer(source, 7) == 7
    assert len(list(cache.glob("*.so"))) == 2


@pytest.mark.parametrize("damage", [halve, garbage, forget_digest])
def test_a_damaged_library_is_built_anew(
    source: Path, cache: Path, damage: Callable[[Path], None]
) -> None:
    assert answer(source) == 42
    whole = library(cache).read_bytes()
    damage(cache)
    assert answer(source) == 42
    assert library(cache).read_bytes() == whole


def test_no_compiler_is_told(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "")
    assert answer(source) is None
    assert "there is no C++ compiler" in caplog.text


def test_a_broken_source_is_told_by_its_first_error(
    source: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source.write_text("int answer( {")
    assert answer(source) is None
    assert len(caplog.records) == 1
    assert "error:" in caplog.text


def test_a_compiler_that_hangs_ends(
    source: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake = tmp_path / "bin" / "g++"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent))
    monkeypatch.setattr(compiling, "COMPILE_S", 0.2)
    assert answer(source) is None
    assert "timed out" in caplog.text


def test_no_home_folder_is_told_and_does_no_harm(
    source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert answer(source) == 42
    assert "set XDG_CACHE_HOME" in caplog.text


def test_a_cache_that_can_not_be_written_is_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert answer(source) == 42
    assert "can't be kept" in caplog.text


def test_the_user_may_do_without_in_silence(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("REASON_COMPILE", "0")
    assert answer(source) is None
    assert not caplog.records
