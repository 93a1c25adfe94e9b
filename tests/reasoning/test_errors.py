"""Errors about models and backends: their text, and that they survive pickling."""

from __future__ import annotations

import pickle

import pytest

from orchestrator.errors import ReasonError
from reasoning import errors

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ReasonError) and kind is not ReasonError
]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_says_its_message_also_after_pickling(kind: type[ReasonError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("no port 8000; start the server")))
    assert type(copy) is kind
    assert str(copy) == "no port 8000; start the server"


def test_a_lost_backend_is_a_connection_error() -> None:
    with pytest.raises(ConnectionError, match="ask again"):
        raise errors.BackendLost("ask again")
