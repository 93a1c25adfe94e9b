"""The settings of a server: where it listens, who may ask, and how much runs at once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import InvalidValue

if TYPE_CHECKING:
    from protocol.http.access import ApiKeys

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """The options of ``reason serve``, with their defaults.

    Attributes:
        host: The address to listen on.
        port: The port; 0 takes a free one.
        keys: Whose requests are answered; None answers everybody.
        insecure: Whether to listen beyond this machine without keys.
        origins: Web origins whose pages may ask.
        max_concurrent: Runs at once.
        max_branches: Branches of all runs at once; when they get few, runs get fewer each.
        max_queued: Requests that wait for their turn; more are refused.
        plain_tokens: Requests for at most so many tokens get one plain sample; 0 for none.
        plain_models: Names of variants that are always answered by one plain sample.
        max_connections: Connections at once; fewer where the process may open fewer files.
        max_per_address: Connections at once from one address.
        timeout: Seconds that a run may take, whatever its request says.
        drain: Seconds that runs may go on after the server was told to stop.
        a2a: Whether the server is an A2A agent, too.
        public_url: Where others reach the server, for the A2A card; None is the bound address.
        version: What the server says of itself.

    Raises:
        InvalidValue: a value is out of range, or the host can be reached by others without a key.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: ApiKeys | None = None
    insecure: bool = False
    origins: Collection[str] = ()
    max_concurrent: int = 64
    max_branches: int = 1024
    max_queued: int = 256
    plain_tokens: int = 0
    plain_models: Collection[str] = ()
    max_connections: int = 512
    max_per_address: int = 256
    timeout: float = 600.0
    drain: float = 10.0
    a2a: bool = False
    public_url: str | None = None
    version: str = "0"

    def __post_init__(self) -> None:
        if not (self.loopback or self.keys or self.insecure):
            raise InvalidValue(
                f"host: {self.host} can be reached by others, and no key is asked for; "
                "give --api-key-file FILE, or --insecure if that is meant"
            )
        if self.max_concurrent < 1:
            raise InvalidValue(f"max-concurrent: {self.max_concurrent} is too few; give 1 or more")
        if self.max_branches < 1:
            raise InvalidValue(f"max-branches: {self.max_branches} is too few; give 1 or more")
        if self.max_queued < 0:
            raise InvalidValue(f"max-queued: {self.max_queued} is too few; give 0 or more")

    @property
    def loopback(self) -> bool:
        """Whether only programs on this machine can reach the server."""
        return self.host in LOOPBACK
