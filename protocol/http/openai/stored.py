"""Responses that are kept in memory, a bounded number, so that the next can go on from them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from protocol.http.contract.conversation import ConversationTurn
from protocol.http.errors import Refusal

MOST_STORED = 1_000
MOST_CHARACTERS = 32 << 20
"""Characters of all kept conversations together."""


@dataclass(frozen=True, kw_only=True)
class StoredResponse:
    """One response: whose it is, its body, and the conversation up to it."""

    owner: str
    body: dict[str, Any]
    turns: tuple[ConversationTurn, ...]

    @property
    def size(self) -> int:
        """About how many characters it holds."""
        return sum(
            len(turn.text) + len(turn.thoughts) + len(str(turn.parts)) for turn in self.turns
        )


class ResponseStore:
    """The latest responses; the oldest make room for new ones."""

    def __init__(self, most: int = MOST_STORED, characters: int = MOST_CHARACTERS) -> None:
        self._most = most
        self._characters = characters
        self._size = 0
        self._kept: OrderedDict[str, StoredResponse] = OrderedDict()

    def keep(self, id: str, response: StoredResponse) -> None:
        """Keep a response under its id."""
        self._kept[id] = response
        self._size += response.size
        while len(self._kept) > self._most or (self._size > self._characters and self._kept):
            _, oldest = self._kept.popitem(last=False)
            self._size -= oldest.size

    def find(self, id: str, owner: str, field: str) -> StoredResponse:
        """The response with this id.

        Raises:
            Refusal: there is none of this owner's, or none any more; it names the ``field``.
        """
        found = self._kept.get(id)
        if found is None or found.owner != owner:
            message = f"{field}: there is no response {id!r} here, or none any more; send its items"
            raise Refusal(404, "response_not_found", message, param=field)
        return found

    def forget(self, id: str, owner: str) -> None:
        """Keep a response no longer.

        Raises:
            Refusal: there is none of this owner's.
        """
        self._size -= self.find(id, owner, "response_id").size
        del self._kept[id]
