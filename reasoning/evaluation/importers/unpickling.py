"""Pickles of plain data: nothing that a file names is run."""

from __future__ import annotations

import pickle
from io import BytesIO
from typing import Any

from orchestrator.errors import importing
from pruning import TracesError

_PLAIN = frozenset(
    {
        ("array", "_array_reconstructor"),
        ("array", "array"),
        ("collections", "OrderedDict"),
        ("collections", "defaultdict"),
        ("collections", "deque"),
        *(("builtins", name) for name in ("set", "frozenset", "complex", "bytearray")),
        *(("builtins", name) for name in ("list", "dict", "int", "float", "str", "bool", "tuple")),
        ("_codecs", "encode"),  # how old protocols write bytes
    }
)
_NUMPY = frozenset(
    {
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.numeric", "_frombuffer"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.numeric", "_frombuffer"),
    }
)


_RENAMED = {"__builtin__": "builtins"}
"""Modules by the names that protocols of Python 2 have for them."""


class PlainUnpickler(pickle.Unpickler):
    """Knows plain containers, numbers, and numpy's scalars and arrays; all else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        module = _RENAMED.get(module, module)
        if (module, name) in _NUMPY:
            with importing("eval", "a pickle with numpy's values"):
                import numpy  # noqa: F401
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if (module, name) in _PLAIN:
            return super().find_class(module, name)
        raise TracesError(
            f"it names {module}.{name}, which is no plain data, and would be run; have it written "
            "as plain lists, dicts, texts and numbers"
        )


def plain_pickle(data: bytes) -> Any:
    """What a pickle holds.

    Raises:
        TracesError: it is damaged, or names anything but plain data.
        ExtraMissing: it needs numpy.
    """
    try:
        return PlainUnpickler(BytesIO(data)).load()
    except (TracesError, ImportError):
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise TracesError(f"damaged ({error}); give a pickle of plain data") from error
