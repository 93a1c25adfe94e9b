"""How options are checked where they are given."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, TypeVar

from orchestrator.errors import InvalidValue

K = TypeVar("K", bound=type[Any])


def nearest(name: str, known: Iterable[str]) -> str:
    """What to write instead of an unknown name: the nearest known one, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else f"give some of {', '.join(known) or 'none'}"


def strict(kind: K) -> K:
    """Let a class refuse keywords that it does not have by `InvalidValue`, with the nearest one."""
    make: Callable[..., None] = kind.__init__
    known = frozenset(make.__annotations__) - {"return"}

    @wraps(make)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        for name in options.keys() - known:
            raise InvalidValue(f"{kind.__name__} has no option {name!r}; {nearest(name, known)}")
        make(self, *args, **options)

    kind.__init__ = checked
    return kind


def check_kind(owner: str, field: str, value: object, kinds: tuple[type, ...], wanted: str) -> None:
    """Refuse a value that is of none of these kinds; true and false are no numbers.

    Raises:
        InvalidValue: it names the field and what is wanted.
    """
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise InvalidValue(f"{owner} {field} is {value!r}; give {wanted}")


def check_amounts(owner: str, field: str, value: object) -> None:
    """Refuse what is no mapping of names to numbers.

    Raises:
        InvalidValue: it names the field and what is wanted.
    """
    wanted = 'names with numbers, such as {"gpu": 1}'
    check_kind(owner, field, value, (Mapping,), wanted)
    assert isinstance(value, Mapping)
    for name, amount in value.items():
        check_kind(owner, field, name, (str,), wanted)
        check_kind(owner, f"{field}[{name!r}]", amount, (int, float), "a number")
