"""Tables that forget: of what others send, only so much is kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class BoundedTable(Generic[T]):
    """Items by key, at most ``most`` of at most ``most_bytes``; the least used are forgotten."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self.most = most
        self.most_bytes = most_bytes
        self._items: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._bytes = 0

    def __contains__(self, key: str) -> bool:
        return key in self._items

    def __iter__(self) -> Iterator[tuple[str, T]]:
        return ((key, item) for key, (item, _) in self._items.items())

    def get(self, key: str) -> T | None:
        """The item of a key, unless it is forgotten."""
        if key not in self._items:
            return None
        self._items.move_to_end(key)
        return self._items[key][0]

    def add(self, key: str, item: T, size: int) -> None:
        """Keep an item of so many bytes, in place of an earlier one of the same key."""
        self.drop(key)
        self._items[key] = item, size
        self._bytes += size
        while len(self._items) > self.most or self._bytes > self.most_bytes:
            self._bytes -= self._items.popitem(last=False)[1][1]

    def drop(self, key: str) -> None:
        """Forget an item."""
        if key in self._items:
            self._bytes -= self._items.pop(key)[1]
