"""What the scheduler tells the workers of a step, beside what vLLM tells them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorMetadata


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
        paths: The identities, from 1 on, of requests whose tokens are marked as a path's.
    """

    offsets: dict[str, int] = field(default_factory=dict)
    copies: list[KvCopy] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    attention: dict[str, RequestAttention] = field(default_factory=dict)
    tables: dict[str, list[int]] = field(default_factory=dict)
    paths: dict[str, int] = field(default_factory=dict)
