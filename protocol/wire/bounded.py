"""Tables that forget: of what others send, only so much is kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Allowance:
    """What all sessions of one token may have a hub keep, together.

    Attributes:
        bytes: Of payloads, profiles and arguments.
        tasks: Those that have not ended.
    """

    def __init__(self, most_bytes: int, most_tasks: int) -> None:
        self.most_bytes = most_bytes
        self.most_tasks = most_tasks
        self.bytes = self.tasks = 0

    @property
    def spent(self) -> bool:
        """Whether it is more than it may be."""
        return self.bytes > self.most_bytes or self.tasks > self.most_tasks

    def take(self, size: int, tasks: int = 0) -> bool:
        """Take a part, if it is left."""
        if self.bytes + size > self.most_bytes or self.tasks + tasks > self.most_tasks:
            return False
        self.bytes += size
        self.tasks += tasks
        return True

    def give_back(self, size: int, tasks: int = 0) -> None:
        """Give a part back."""
        self.bytes -= size
        self.tasks -= tasks


class BoundedTable(Generic[T]):
    """Items by key, at most ``most`` of at most ``most_bytes``; the least used are forgotten.

    Those of a shared ``allowance`` are forgotten as well, while that is more than spent.
    """

    def __init__(self, most: int, most_bytes: int, allowance: Allowance | None = None) -> None:
        self.most = most
        self.most_bytes = most_bytes
        self._allowance = allowance
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
        self._count(size)
        while self._items and self._too_much:
            self._count(-self._items.popitem(last=False)[1][1])

    def drop(self, key: str) -> None:
        """Forget an item."""
        if key in self._items:
            self._count(-self._items.pop(key)[1])

    def clear(self) -> None:
        """Forget all."""
        self._items.clear()
        self._count(-self._bytes)

    @property
    def _too_much(self) -> bool:
        over = len(self._items) > self.most or self._bytes > self.most_bytes
        return over or (self._allowance is not None and self._allowance.spent)

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._allowance is not None:
            self._allowance.bytes += size
