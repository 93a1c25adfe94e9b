"""Tests on the evaluation programs themselves.

They run in an environment of their own, which ``scripts/test-evals`` makes; where the programs are
not installed they are not collected.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.support.rule_server import RuleServer, rule_server

MODULES = ("lm_eval", "inspect_ai")
collect_ignore_glob = [] if all(map(find_spec, MODULES)) else ["test_*.py"]


@pytest.fixture
def server() -> Iterator[RuleServer]:
    """A model that says what its question tells it to."""
    with rule_server() as rules:
        yield rules
