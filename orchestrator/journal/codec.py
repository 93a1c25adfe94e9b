"""Values and errors as JSON and back: what comes back is what was written, or it is refused.

A value that JSON has no word for is written with a tag: ``{"$": kind, ...}``.  A class is named,
and looked up again when its values are read; nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import pathlib
import uuid
import warnings
from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from importlib import import_module
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter
from pydantic import ValidationError as Invalid

from orchestrator.errors import InvalidValue, ReasonError, text_of, told
from orchestrator.journal.identity import MAIN, main_name, module_of

MOST_BITS = 10_000
"""Longer whole numbers are written in base 16: Python limits the digits of others."""
LONGEST = 500_000_000
"""Characters of one value; SQLite takes up to a thousand million bytes."""

dumps = partial(json.dumps, separators=(",", ":"))


class Unwritable(Exception):
    """Raised for a value of a class that can't be written."""


class EarlierFailure(ReasonError):
    """What a task raised in an earlier process, of a class that is not there any more."""


def adapter(hint: Any) -> TypeAdapter[Any] | None:
    """What checks and reads values of an annotation; None for one that pydantic can't use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it can't check: such annotations are no mistake
        try:
            return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
        except PydanticUserError:  # a type with a configuration of its own
            pass
        except Exception:  # whatever is wrong with an annotation, it can't be used
            return None
        try:
            return TypeAdapter(hint)
        except Exception:
            return None


def why(error: ValueError) -> str:
    """The first of pydantic's complaints, in one line; the whole of any other error's text."""
    if not isinstance(error, Invalid):
        return str(error)
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


def to_json(value: Any, task: str, hint: Any = None, kept: str = "journaled") -> str:
    """The result of a task as JSON; ``hint`` is its function's return annotation.

    Messages say that it can't be ``kept``.

    Raises:
        InvalidValue: it would not come back as it is; the message names the task and the class.
    """
    try:
        text = dumps(_plain(value))
    except Exception as error:
        found = _by_hint(value, hint)
        if found is None:
            what = str(error) if isinstance(error, Unwritable) else told(error, 200)
            raise InvalidValue(
                f"the result of task {task} can't be {kept} ({what}); return JSON values, "
                "collections, or dataclasses and models of modules, or let it not be"
            ) from error
        text = found
    if len(text) > LONGEST:
        raise InvalidValue(
            f"the result of task {task} can't be {kept} ({len(text)} characters); "
            "write it to a file and return its name"
        )
    return text


def _by_hint(value: Any, hint: Any) -> str | None:
    """The value written and read by its annotation, if that gives the same value again."""
    found = None if hint is None else adapter(hint)
    if found is None:
        return None
    try:
        text = found.dump_json(value, warnings="error").decode()
        again = found.validate_json(text)
        same = type(again) is type(value) and again == value and repr(again) == repr(value)
    except Exception:
        return None
    return dumps({"$": "hint", "v": text}) if same else None


def by_annotation(text: str, hint: Any) -> Any:
    """What a text of plain JSON, from another program, holds, as an annotation wants it.

    Raises:
        ValueError: it does not fit.
    """
    found = None if hint is None else adapter(hint)
    return json.loads(text) if found is None else found.validate_json(text)


def from_json(text: str, hint: Any = None) -> Any:
    """The value that a text holds.

    Raises:
        ValueError: it can't be made again, as its class is not there or has changed.
    """
    plain = json.loads(text)
    if type(plain) is dict and plain.get("$") == "hint":
        if hint is None:
            raise ValueError("its annotation can't be used any more")
        return by_annotation(plain["v"], hint)
    try:
        return _value(plain)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"it can't be made again ({told(error, 200)})") from error


# ---- classes by name ---------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def name_of_class(kind: type) -> str:
    """The name of a class, by which it is found again."""
    name = f"{module_of(kind)}:{kind.__qualname__}"
    try:
        same = class_named(name) is kind
    except ValueError:
        same = False
    if not same:
        raise Unwritable(f"a value of class {kind.__qualname__}, which has no name in its module")
    return name


def class_named(name: str) -> type:
    module, _, path = name.partition(":")
    try:
        found: Any = import_module(MAIN if module == main_name() else module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"there is no class {name}") from error
    if not isinstance(found, type):
        raise ValueError(f"{name} is no class")
    return found


# ---- writing -----------------------------------------------------------------------------------

_SIMPLE: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    complex: ("complex", lambda v: [v.real, v.imag], lambda v: complex(*v)),
    bytes: ("bytes", bytes.hex, bytes.fromhex),
    bytearray: ("bytearray", lambda v: v.hex(), bytearray.fromhex),
    range: ("range", lambda v: [v.start, v.stop, v.step], lambda v: range(*v)),
    datetime.date: ("date", lambda v: v.isoformat(), datetime.date.fromisoformat),
    datetime.timedelta: (
        "timedelta",
        lambda v: [v.days, v.seconds, v.microseconds],
        lambda v: datetime.timedelta(*v),
    ),
    decimal.Decimal: ("decimal", str, decimal.Decimal),
    fractions.Fraction: ("fraction", str, fractions.Fraction),
    uuid.UUID: ("uuid", str, uuid.UUID),
    type(pathlib.Path()): ("path", str, pathlib.Path),
    pathlib.PurePosixPath: ("posix", str, pathlib.PurePosixPath),
}
_READERS = {tag: read for tag, _, read in _SIMPLE.values()}


def _plain(value: Any) -> Any:
    kind = type(value)
    if value is None or kind is bool or kind is float or kind is str:
        return value
    if kind is int:
        return value if value.bit_length() < MOST_BITS else {"$": "int", "v": hex(value)}
    if kind is list:
        return [_plain(item) for item in value]
    if kind is dict:
        if "$" not in value and all(type(key) is str for key in value):
            return {key: _plain(item) for key, item in value.items()}
        return {"$": "dict", "v": [[_plain(key), _plain(item)] for key, item in value.items()]}
    if kind is tuple:
        return {"$": "tuple", "v": [_plain(item) for item in value]}
    if kind is set or kind is frozenset:
        return {"$": kind.__name__, "v": sorted((_plain(item) for item in value), key=dumps)}
    if kind in _SIMPLE:
        tag, write, _ = _SIMPLE[kind]
        return {"$": tag, "v": write(value)}
    return _object(value, kind)


def _object(value: Any, kind: type) -> Any:
    if isinstance(value, BaseException):
        return _error(value)
    if kind is datetime.datetime or kind is datetime.time:
        text = value.replace(tzinfo=None).isoformat()
        return {"$": kind.__name__, "v": text, "fold": value.fold, "zone": _zone(value.tzinfo)}
    name = name_of_class(kind)
    if isinstance(value, enum.Enum):
        return {"$": "enum", "c": name, "v": _plain(value.value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {"$": "named", "c": name, "v": [_plain(item) for item in value]}
    if dataclasses.is_dataclass(value) and not isinstance(value, _BUILTINS):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        others = getattr(value, "__dict__", {}).keys() - fields.keys()
        if all(isinstance(getattr(kind, name, None), cached_property) for name in others):
            return {"$": "data", "c": name, "v": {k: _plain(v) for k, v in fields.items()}}
    if hasattr(kind, "__pydantic_fields_set__") and hasattr(kind, "model_fields"):
        state = [getattr(value, part) for part in _MODEL_STATE]
        return {"$": "model", "c": name, "v": [_plain(part) for part in state]}
    raise Unwritable(f"a value of class {kind.__module__}.{kind.__qualname__}")


def _zone(zone: datetime.tzinfo | None) -> Any:
    if zone is None:
        return None
    if type(zone) is datetime.timezone:
        return _plain(zone.utcoffset(None))
    key = getattr(zone, "key", None)  # of zoneinfo
    if key is None:
        raise Unwritable(f"a time in a zone of class {type(zone).__qualname__}")
    return key


_BUILTINS = (dict, list, set, tuple, str, int, float, bytes)
_MODEL_STATE = (
    "__dict__",
    "__pydantic_fields_set__",
    "__pydantic_extra__",
    "__pydantic_private__",
)


def _error(error: BaseException) -> dict[str, Any]:
    kinds = [k for k in type(error).__mro__ if issubclass(k, BaseException)]
    return {
        "$": "error",
        "c": [f"{module_of(kind)}:{kind.__qualname__}" for kind in kinds],
        "v": _or_none(_arguments(error)),
        "d": {name: found for name, v in vars(error).items() if (found := _or_none(v)) is not None},
        "t": text_of(error),
    }


def _arguments(error: BaseException) -> Any:
    """What its class was called with: an OSError's args lack the name of its file."""
    builtin = type(error).__module__ == "builtins"
    return error.__reduce__()[1] if builtin else error.args


def _or_none(value: Any) -> Any:
    try:
        plain = _plain(value)
        dumps(plain)
    except Exception:
        return None
    return plain


def error_to_json(error: BaseException) -> str:
    """An error as JSON; of what can't be written of it, its text remains."""
    return dumps(_error(error))


# ---- reading -----------------------------------------------------------------------------------


def _value(plain: Any) -> Any:
    if type(plain) is list:
        return [_value(item) for item in plain]
    if type(plain) is not dict:
        return plain
    tag = plain.get("$")
    if tag is None:
        return {key: _value(item) for key, item in plain.items()}
    if tag in _READERS:
        return _READERS[tag](plain["v"])
    return _TAGGED[tag](plain)


def _items(plain: Any) -> Any:
    return (_value(item) for item in plain["v"])


def _time(plain: Any) -> Any:
    kind = datetime.datetime if plain["$"] == "datetime" else datetime.time
    zone: Any = plain["zone"]
    if isinstance(zone, str):
        from zoneinfo import ZoneInfo

        zone = ZoneInfo(zone)
    elif zone is not None:
        zone = datetime.timezone(_value(zone))
    return kind.fromisoformat(plain["v"]).replace(tzinfo=zone, fold=plain["fold"])


def _data(plain: Any) -> Any:
    kind = class_named(plain["c"])
    names = {field.name for field in dataclasses.fields(kind)}
    if names != plain["v"].keys():
        raise ValueError(f"the fields of class {plain['c']} have changed")
    new: Any = object.__new__(kind)
    for name, item in plain["v"].items():
        object.__setattr__(new, name, _value(item))
    return new


def _model(plain: Any) -> Any:
    kind: Any = class_named(plain["c"])
    state = [_value(part) for part in plain["v"]]
    if not set(state[0]) <= kind.model_fields.keys():
        raise ValueError(f"the fields of class {plain['c']} have changed")
    new: Any = kind.__new__(kind)
    for name, part in zip(_MODEL_STATE, state, strict=True):
        object.__setattr__(new, name, part)
    return new


def _raised(plain: Any) -> BaseException:
    kind, exact = _known_kind(plain["c"])
    args = (plain["t"],) if plain["v"] is None else _value(plain["v"])
    error = _made(kind, args)
    if not exact or type(error) is not kind or text_of(error) != plain["t"]:
        name, text = plain["c"][0].rpartition(":")[2].rpartition(".")[2], plain["t"]
        error = _made(type(name, (kind,), {"__str__": lambda _: text, "__module__": "?"}), args)
    vars(error).update({name: _value(item) for name, item in plain["d"].items()})
    return error


def _made(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """An error that need not be initialised as its class wants it."""
    try:
        if kind.__module__ == "builtins":
            return kind(*args)
        error = kind.__new__(kind, *args)
        error.args = args
    except Exception:
        return EarlierFailure(*args)
    return error


def _known_kind(names: list[str]) -> tuple[type[BaseException], bool]:
    """The nearest class of an error that is still there, and whether it is its own."""
    for name in names:
        try:
            found = class_named(name)
        except ValueError:
            continue
        if issubclass(found, BaseException):
            return found, name == names[0]
    return EarlierFailure, False


_TAGGED: dict[str, Callable[[Any], Any]] = {
    "int": lambda plain: int(plain["v"], 16),
    "dict": lambda plain: {_value(key): _value(item) for key, item in plain["v"]},
    "tuple": lambda plain: tuple(_items(plain)),
    "set": lambda plain: set(_items(plain)),
    "frozenset": lambda plain: frozenset(_items(plain)),
    "datetime": _time,
    "time": _time,
    "enum": lambda plain: class_named(plain["c"])(_value(plain["v"])),
    "named": lambda plain: class_named(plain["c"])(*_items(plain)),
    "data": _data,
    "model": _model,
    "error": _raised,
}
