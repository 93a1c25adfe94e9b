"""How functions and classes are named, in this process and the next."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

IDENTITY = "__orchestrator_identity__"
"""An attribute of a function: a tuple of what kind it is, what it calls, and with what."""
MAIN = "__main__"


def module_of(kind: object) -> str:
    """The module of a function or class; of the program itself, the name that it is imported by."""
    module = str(getattr(kind, "__module__", "") or "")
    return main_name() if module in (MAIN, "__mp_main__") else module


@cache
def main_name() -> str:
    """What the program itself would be called if another one imported it."""
    main = sys.modules.get(MAIN)
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    return MAIN if file is None else Path(file).stem


@cache
def is_own(kind: type) -> bool:
    """Whether a class is of the program's own code, and not of Python or an installed package."""
    root = kind.__module__.partition(".")[0]
    if root in (MAIN, "__mp_main__"):
        return True
    if root in ("orchestrator", *sys.stdlib_module_names):
        return False
    file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
    return bool(file) and not {"site-packages", "dist-packages"} & set(Path(file).parts)
