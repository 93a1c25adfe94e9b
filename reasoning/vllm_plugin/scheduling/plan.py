"""What the scheduler tells the workers of a step, beside what vLLM tells them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorMetadata

from reasoning.vllm_plugin.attention.patches import PatchedMethod


class KvCopy(NamedTuple):
    """Keys and values of ``size`` tokens that are copied between two tables of blocks."""

    source: list[int]
    source_first: int
    target: list[int]
    target_first: int
    size: int


class VisibleRun(NamedTuple):
    """Stored tokens that a request's tokens see: ``size`` of a table from ``first`` on.

    ``turn`` is how many positions further off they are than their keys' positions say.
    """

    table: str
    first: int
    size: int
    turn: int


@dataclass(frozen=True, kw_only=True)
class RequestAttention:
    """What the tokens fed to one request see beside themselves and each other.

    Attributes:
        parts: Other segments.
        table, used: Where its own tokens are, and how many there are before this step.
    """

    parts: list[VisibleRun]
    table: str
    used: int


@dataclass
class StepPlan(KVConnectorMetadata):
    """One step.

    Attributes:
        offsets: What is added to the positions of a request's tokens, by request.
        copies: Done before the step.
        failed: Requests that can't be served.
        attention: By request, of those whose tokens see other requests' segments.
        tables: The blocks that ``attention`` refers to.
        paths: The identities of requests whose tokens are marked; 0 is that of no path's.
        moved, looking, marked: By a worker's hooks: the requests for which each has run.
        patched: By a worker's hooks: what every layer had to come by.
    """

    offsets: dict[str, int] = field(default_factory=dict)
    copies: list[KvCopy] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    attention: dict[str, RequestAttention] = field(default_factory=dict)
    tables: dict[str, list[int]] = field(default_factory=dict)
    paths: dict[str, int] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)
    looking: set[str] = field(default_factory=set)
    marked: set[str] = field(default_factory=set)
    patched: list[PatchedMethod] = field(default_factory=list)

    def omitted(self) -> str | None:
        """What a worker has not done for some request of this step, in words; None if all."""
        for wanted, done, what in (
            (self.offsets.keys(), self.moved, "positions were not moved"),
            (self.attention.keys(), self.looking, "attention saw no other segments"),
            (self.paths.keys(), self.marked, "keys and values were not marked"),
        ):
            if left := wanted - done:
                return f"{what} for {len(left)} of {len(wanted)} requests"
        missing = sum(abs(one.missing) for one in self.patched)
        return f"{missing} layers were captured or passed by" if missing else None
