"""C++ that is compiled on this machine when it is first used, and kept in the user's cache."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from reasoning.user_cache import user_cache

logger = logging.getLogger(__name__)

FLAGS = ("-O3", "-march=native", "-ffast-math", "-std=c++17", "-fPIC")
COMPILE_S = 60.0
"""How long the compiler may take for each of its two runs."""


def build(
    source: Path, macros: Mapping[str, object], *, options: Sequence[str] = ()
) -> ctypes.CDLL | None:
    """The shared library of a source file, or None with a warning that says why there is none.

    ``options`` are for compiling and for linking.  ``REASON_COMPILE=0`` does without, in silence.
    A library in the cache is used only if it is whole; otherwise it is built anew.
    """
    if os.environ.get("REASON_COMPILE") == "0":
        return None
    wide = ["-mprefer-vector-width=512"] if platform.machine() in ("x86_64", "AMD64") else []
    flags = [*FLAGS, *wide, *options, *(f"-D{name}={value}" for name, value in macros.items())]
    try:
        compiler = shutil.which("g++") or shutil.which("clang++")
        if compiler is None:
            raise OSError("there is no C++ compiler; install g++")
        key = hashlib.sha256(repr((source.read_bytes(), flags, _machine(compiler))).encode())
        name = f"{source.stem}-{key.hexdigest()[:16]}.so"
        with tempfile.TemporaryDirectory() as work:
            path = _cached(name)
            if path is None:
                path = _keep(_compile([compiler, *flags], source, options, Path(work)), name)
            return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        why = _first_line(error)
        logger.warning("%s is not compiled (%s); torch does the same, slower", source.name, why)
        return None


def _cached(name: str) -> Path | None:
    """The library in the cache, if its digest is that with which it was written."""
    try:
        path = user_cache() / name
        whole = path.with_suffix(".sha256").read_text() == _digest(path)
    except OSError:
        return None
    return path if whole else None


def _keep(library: Path, name: str) -> Path:
    """Put a library into the cache, on disk before it has its name there; where it is afterwards.

    Where the cache can't be written the library is used from where it was built.
    """
    try:
        folder = user_cache()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            copy, digest = Path(work) / "library", Path(work) / "digest"
            _write(copy, library.read_bytes())
            _write(digest, _digest(library).encode())
            path = folder / name
            path.with_suffix(".sha256").unlink(missing_ok=True)
            copy.replace(path)
            digest.replace(path.with_suffix(".sha256"))
        return path
    except OSError as error:
        why = _first_line(error)
        logger.warning("what was compiled can't be kept (%s); each start compiles anew", why)
        return library


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _compile(command: Sequence[str], source: Path, options: Sequence[str], folder: Path) -> Path:
    """The shared library.

    It is linked apart: with -ffast-math the linker adds code that makes every float of the whole
    process that is subnormal zero.
    """
    unit, library = folder / "unit.o", folder / "library.so"
    for arguments in (
        [*command, "-c", str(source), "-o", str(unit)],
        [command[0], "-shared", *options, str(unit), "-o", str(library)],
    ):
        subprocess.run(arguments, check=True, capture_output=True, timeout=COMPILE_S)
    return library


def _machine(compiler: str) -> tuple[object, ...]:
    """What a library depends on beside its source: a home folder may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((one for one in lines if one.startswith("flags")), platform.processor())
    except OSError:
        processor = platform.processor()
    names = getattr(os, "confstr_names", {})
    libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in names else ""
    found = os.stat(compiler)
    return processor, libc, os.path.realpath(compiler), found.st_size, found.st_mtime_ns


def _first_line(error: Exception) -> str:
    """What an error says, in one line; of a compiler's the first error that it printed."""
    printed = getattr(error, "stderr", None) or b""
    lines = [one for one in printed.decode(errors="replace").splitlines() if "error" in one]
    return (lines or str(error).splitlines() or [type(error).__name__])[0]
