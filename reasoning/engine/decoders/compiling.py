"""C++ that is compiled on this machine when it is first used, and kept in the user's cache."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

FLAGS = ("-O3", "-march=native", "-ffast-math", "-std=c++17", "-fPIC")


def build(
    source: Path, macros: Mapping[str, object], *, options: Sequence[str] = ()
) -> ctypes.CDLL | None:
    """The shared library of a source file; None without a compiler, or where the user wants none.

    ``options`` are for compiling and for linking.  ``REASON_COMPILE=0`` does without it.
    """
    if os.environ.get("REASON_COMPILE") == "0":
        return None
    wide = ["-mprefer-vector-width=512"] if platform.machine() in ("x86_64", "AMD64") else []
    flags = [*FLAGS, *wide, *options, *(f"-D{name}={value}" for name, value in macros.items())]
    key = hashlib.sha256(repr((source.read_bytes(), flags, _processor())).encode()).hexdigest()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "parallel-reason"
    path = folder / f"{source.stem}-{key[:16]}.so"
    try:
        if not path.exists():
            compiler = shutil.which("g++") or shutil.which("clang++")
            if compiler is None:
                return None
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryDirectory(dir=folder) as work:
                _compile(compiler, source, flags, options, Path(work)).replace(path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError):
        return None


def _compile(
    compiler: str, source: Path, flags: Sequence[str], options: Sequence[str], folder: Path
) -> Path:
    """The shared library.

    It is linked apart: with -ffast-math the linker adds code that makes every float of the whole
    process that is subnormal zero.
    """
    unit, library = folder / "unit.o", folder / "library.so"
    for arguments in (
        [*flags, "-c", str(source), "-o", str(unit)],
        ["-shared", *options, str(unit), "-o", str(library)],
    ):
        subprocess.run([compiler, *arguments], check=True, capture_output=True, timeout=60)
    return library


def _processor() -> str:
    """What ``-march=native`` depends on: a home folder may be shared by several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line for line in lines if line.startswith("flags")), platform.processor())
    except OSError:
        return platform.processor()
