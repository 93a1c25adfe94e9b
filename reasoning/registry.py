"""Strategies, policies, backends and domains by name: ours, a user's own, and installed ones.

Wherever a name is taken, an object of the user's own may be given instead.  A text is one of

- ``NAME``: a kind that is built in, registered in Python, or an installed package's entry point;
- ``module:Name`` or ``path.py:Name``: a class in a module or a file (nothing else loads code);

each perhaps followed by ``:key=value,key=value``, the keyword arguments of the class.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from orchestrator.errors import InvalidValue, ReasonError, UnknownName

T = TypeVar("T")

_ELSEWHERE = re.compile(r"((?:[^:]+\.py)|[A-Za-z_][\w.]*):([A-Za-z_]\w*)(?::(.*))?", re.S)


@dataclass(frozen=True, kw_only=True)
class Choice(Generic[T]):
    """A kind that a text names, and the keyword arguments that it is given there."""

    name: str
    kind: Callable[..., T]
    values: Mapping[str, Any] = field(default_factory=dict)

    def make(self, noun: str, **more: Any) -> T:
        """An object of the kind.

        Raises:
            InvalidValue: an argument is given twice, or the kind refuses one.
        """
        for key in more.keys() & self.values.keys():
            raise InvalidValue(f"{key}: given twice, by itself and with the {noun}; leave one out")
        try:
            return self.kind(**self.values, **more)
        except ReasonError:
            raise
        except (TypeError, ValueError) as error:
            raise InvalidValue(f"{noun}: {self.name}: {error}") from error
        except (Exception, SystemExit) as error:  # whatever somebody else's code does
            why = f"{type(error).__name__}: {error}"
            raise InvalidValue(f"{noun}: {self.name} made nothing ({why}); mend it") from error


class KindRegistry(Generic[T]):
    """The kinds of one seam.

    Args:
        noun: What a kind is called in messages, and the option that takes it.
        group: The entry points of installed packages, such as ``parallel_reason.strategies``.
        base: What each object must derive from; None where anything will do.
        kinds: What is built in, by name: classes, or ``module:Name`` to import when needed.
        elsewhere: What else a text may be, in messages.
    """

    def __init__(
        self,
        noun: str,
        *,
        group: str,
        kinds: Mapping[str, Callable[..., T] | str],
        base: type | None = None,
        elsewhere: str = "module:Name or path.py:Name",
    ) -> None:
        self.noun = noun
        self.group = group
        self.base = base
        self._elsewhere = elsewhere
        self._kinds: dict[str, Callable[..., T] | str] = dict(kinds)

    def register(self, name: str, kind: Callable[..., T]) -> None:
        """Let ``name`` stand for a class, or any callable that makes such an object.

        Raises:
            InvalidValue: the name is taken, or could not be written in a text.
        """
        if not re.fullmatch(r"[A-Za-z0-9][\w.\-]*", name):
            raise InvalidValue(f"{self.noun}: {name!r} is no name; use letters, digits, - and _")
        if name in self._kinds:
            raise InvalidValue(f"{self.noun}: {name!r} exists already; give another name")
        self._kinds[name] = kind

    @property
    def names(self) -> list[str]:
        """Every name, the built-in ones first."""
        return list(dict.fromkeys([*self._kinds, *self._installed]))

    @cached_property
    def _installed(self) -> dict[str, metadata.EntryPoint]:
        return {point.name: point for point in metadata.entry_points(group=self.group)}

    def choose(self, text: str) -> Choice[T]:
        """What a text stands for; nothing is made yet.

        Raises:
            UnknownName: there is no such kind, module or file.
            InvalidValue: a key is unknown, doubled or empty, or its value does not fit.
        """
        name, _, rest = text.partition(":")
        if name in self._kinds or name in self._installed:
            kind = self._named(name)
        elif match := _ELSEWHERE.fullmatch(text):
            name, rest = f"{match[1]}:{match[2]}", match[3] or ""
            kind = self._load(match[1], match[2])
        else:
            known = f"choose {', '.join(self.names)}, or give" if self.names else "give"
            raise UnknownName(
                f"{self.noun} {name!r} does not exist; {nearest(name, self.names)}{known} "
                f"{self._elsewhere}"
            )
        if text.endswith(":"):
            raise InvalidValue(f"{self.noun}: {text!r} ends in a colon; give NAME:key=value")
        pairs = rest.split(",") if rest else ()
        return Choice(name=name, kind=kind, values=self.arguments(name, kind, pairs))

    def make(self, given: T | str, **more: Any) -> T:
        """The object that a text stands for, with ``more`` arguments; an object is itself.

        Raises:
            UnknownName: there is no such kind, module or file.
            InvalidValue: an argument is unknown, doubled or does not fit.
        """
        if not isinstance(given, str):
            return given
        made = self.choose(given).make(self.noun, **more)
        if self.base is not None and not isinstance(made, self.base):
            name = self.base.__name__
            raise InvalidValue(f"{self.noun}: {given} is no {name}; derive it from {name}")
        return made

    def _named(self, name: str) -> Callable[..., T]:
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._kinds[name] = self._installed[name].load()
        elif isinstance(kind, str):
            module, _, attribute = kind.partition(":")
            kind = self._kinds[name] = getattr(importlib.import_module(module), attribute)
        return kind

    def _load(self, place: str, attribute: str) -> Callable[..., T]:
        try:
            module = _file(place, self.noun) if place.endswith(".py") else _module(place, self.noun)
        except (ReasonError, KeyboardInterrupt):
            raise
        except (Exception, SystemExit) as error:  # whatever somebody else's code does
            why = f"{type(error).__name__}: {error}"
            raise InvalidValue(f"{self.noun}: {place} can't be loaded ({why}); mend it") from error
        found: Any = getattr(module, attribute, None)
        if not callable(found):
            names = [name for name, one in vars(module).items() if callable(one)]
            hint = nearest(attribute, names)
            raise UnknownName(f"{self.noun}: {place} has no class {attribute!r}; {hint}give one")
        loaded: Callable[..., T] = found
        return loaded

    def arguments(self, name: str, kind: Callable[..., T], pairs: Iterable[str]) -> dict[str, Any]:
        """The keyword arguments of a kind out of ``key=value`` pairs.

        A key with a dot, as ``speculative.tokens``, is a part of a value.

        Raises:
            InvalidValue: a key is unknown, doubled or empty, or its value does not fit.
        """
        takes = parameters(kind)
        found: dict[str, Any] = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not (key and equals):
                raise InvalidValue(f"{self.noun}: {pair!r} is not key=value; {_has(name, takes)}")
            first, *rest = key.split(".")
            if first not in takes:
                raise InvalidValue(
                    f"{self.noun}: {name} has no setting {key!r}; {nearest(key, takes)}"
                    f"{_has(name, takes)}"
                )
            place, last = found, first
            for part in rest:
                place, last = place.setdefault(last, {}), part
                if not isinstance(place, dict):
                    raise InvalidValue(f"{self.noun}: {first} is given twice; give it once")
            if last in place:
                raise InvalidValue(f"{self.noun}: {key} is given twice; give it once")
            kind_of = Any if rest else takes[first]
            place[last] = convert(f"{self.noun}: {key}", value, kind_of)
        return found


@cache
def parameters(kind: Callable[..., Any]) -> Mapping[str, Any]:
    """The names and types of what a class or function takes by keyword."""
    hints = get_type_hints(kind)
    if inspect.isclass(kind):
        hints = get_type_hints(kind.__init__) | hints
    taken = inspect.signature(kind).parameters.values()
    keywords = [
        one.name for one in taken if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    return {name: hints.get(name, Any) for name in keywords}


def convert(field: str, text: str, kind: Any) -> Any:
    """A value of a type out of its text.

    Raises:
        InvalidValue: it is none; the message names the field.
    """
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    known = []
    for one in kinds:
        base = get_origin(one) or one
        try:
            return _CONVERTERS.get(base, _json)(text, one)
        except (KeyError, ValueError):
            known.append(_WORDS.get(base) or ", ".join(map(str, get_args(one))))
    raise InvalidValue(f"{field}: {text!r} does not fit; give {' or '.join(known)}")


def _int(text: str, _: Any) -> int:
    if not re.fullmatch(r"[+-]?\d{1,18}", text):
        raise ValueError(text)
    return int(text)


def _float(text: str, _: Any) -> float:
    value = float(text)
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(text)
    return value


def _json(text: str, _: Any) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


_CONVERTERS: dict[Any, Callable[[str, Any], Any]] = {
    bool: lambda text, _: {"true": True, "false": False}[text],
    int: _int,
    float: _float,
    str: lambda text, _: text,
    Path: lambda text, _: Path(text),
    Literal: lambda text, kind: {str(option): option for option in get_args(kind)}[text],
    NoneType: lambda text, _: {"none": None}[text],
}
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", NoneType: "none"}


def nearest(name: str, known: Iterable[str]) -> str:
    """``did you mean 'apr'? `` where a known name is near, and else nothing."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {found[0]!r}? " if found else ""


def _has(name: str, takes: Iterable[str]) -> str:
    return f"{name} has {', '.join(takes) or 'no settings'}"


def _module(name: str, noun: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and not f"{name}.".startswith(f"{error.name}."):
            raise  # it is there, and lacks something itself
        raise UnknownName(
            f"{noun}: there is no module {name!r} (the folder that you are in is not searched); "
            "give path.py:Name for a file"
        ) from error


def _file(name: str, noun: str) -> ModuleType:
    path = Path(name).resolve()
    if not path.is_file():
        raise UnknownName(f"{noun}: there is no file {name}; give path.py:Name")
    known = f"reason_file_{path.stem}_{abs(hash(path)):x}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[known] = module  # dataclasses look their module up
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[known]
            raise
    return sys.modules[known]
