"""Errors: their text, their builtin bases, and that they survive pickling."""

from __future__ import annotations

import importlib
import pickle
import re
import tomllib
from pathlib import Path

import pytest

from orchestrator import errors
from orchestrator.editing.patches import Conflict
from orchestrator.errors import ExtraMissing, PatchRefused, ReasonError, importing

ROOT = Path(__file__).resolve().parents[2]
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ReasonError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_says_its_message_also_after_pickling(kind: type[ReasonError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("field x is 1; give 'two'")))
    assert type(copy) is kind
    assert str(copy) == "field x is 1; give 'two'"


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("InvalidValue", ValueError),
        ("UnknownName", LookupError),
        ("ExtraMissing", ImportError),
        ("TimeLimitReached", TimeoutError),
    ],
)
def test_an_error_is_caught_by_its_builtin(name: str, builtin: type[Exception]) -> None:
    with pytest.raises(builtin, match="mend it"):
        raise getattr(errors, name)("mend it")


def test_a_refused_patch_keeps_its_conflicts_when_pickled() -> None:
    conflict = Conflict(index=0, operation="add", reason="there is a task a already")
    copy = pickle.loads(pickle.dumps(PatchRefused("mend it", conflicts=(conflict,))))
    assert copy.conflicts == (conflict,)


def test_a_missing_package_is_named_with_the_extra_that_brings_it() -> None:
    with (
        pytest.raises(ExtraMissing, match=r"^a plot needs nothing_here; .*pip install .*\[eval\]'"),
        importing("eval", "a plot"),
    ):
        importlib.import_module("nothing_here")


def test_every_extra_that_a_message_names_is_one_of_the_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    code = "\n".join(
        path.read_text()
        for package in ("orchestrator", "pruning", "protocol", "reasoning")
        for path in (ROOT / package).rglob("*.py")
    )
    named = set(re.findall(r"\b(?:importing|install_hint)\([\"'](\w+)", code))
    assert {"serve", "vllm"} < named <= set(declared["optional-dependencies"])
    assert "parallel-reason[" not in code  # a clone and a package differ; `install_hint` knows
