"""Errors: their text, their builtin bases, and that they survive pickling."""

from __future__ import annotations

import pickle

import pytest

from orchestrator import errors
from orchestrator.editing.patches import Conflict
from orchestrator.errors import PatchRefused, ReasonError

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
