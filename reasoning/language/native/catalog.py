"""Native tongues by name, by file, and by what a model's tokenizer tells of it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import to_json

from orchestrator.errors import InvalidValue
from reasoning.language.native.description import NativeFormat
from reasoning.registry import Choice, KindRegistry

NONE = "none"
"""Asks for no native tongue: the model is a chat model like any other."""
FAMILIES = (
    *("threadweaver", "multiverse", "npr", "parathinker", "parallel-r1-unseen"),
    *("parallel-r1-seen", "apr", "sprint", "pacore", "ssft"),
)
"""Those that come with the package; of two that a tokenizer can't tell apart the first is meant."""
_FILE = re.compile(r"(.+\.(?i:toml))(?::(.*))?", re.S)


@cache
def family(name: str) -> NativeFormat:
    """A tongue that comes with the package."""
    text = (resources.files(__package__) / "families" / f"{name}.toml").read_text("utf-8")
    return _parsed(text, name)


def read_format(path: Path) -> NativeFormat:
    """The tongue that a TOML file describes.

    Raises:
        InvalidValue: it can't be read, or a field of it does not fit; naming the field.
    """
    return _parsed(_text(path, "dialect", "a TOML file"), str(path))


LARGEST = 1 << 20
"""So many bytes a user's file of a tongue, or of its instruction, may have."""


def _text(path: Path, field: str, wanted: str) -> str:
    """The text of a user's file.

    Raises:
        InvalidValue: it can't be read, is too large or empty; naming the field.
    """
    try:
        with path.expanduser().open("rb") as file:
            found = file.read(LARGEST + 1)
        text = found.decode("utf-8-sig")
    except (OSError, RuntimeError, ValueError) as error:
        raise InvalidValue(f"{field}: {path} can't be read ({error}); give {wanted}") from error
    if len(found) > LARGEST or not text.strip():
        what = "larger than 1 MiB" if text.strip() else "empty"
        raise InvalidValue(f"{field}: {path} is {what}; give {wanted}")
    return text


def _parsed(text: str, where: str) -> NativeFormat:
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"dialect: {where} is no TOML: {error}; mend it") from error
    return _checked(table, where)


def _checked(table: dict[str, Any], where: str) -> NativeFormat:
    try:
        return NativeFormat.model_validate_json(to_json(table), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = "".join(f"{one}: " for one in (".".join(map(str, first["loc"])),) if one)
        why = first["msg"].removeprefix("Value error, ")
        mend = "" if "; " in why else "; mend it"
        raise InvalidValue(f"dialect: {where}: {field}{why}{mend}") from error


Maker = Callable[..., NativeFormat]


def _maker(make: Callable[[], NativeFormat]) -> Maker:
    """What makes a tongue with the settings that a user gives beside its name."""

    def made(
        *,
        instruction: Path | None = None,
        opening: str | None = None,
        positions: Literal["trained", "engine"] | None = None,
    ) -> NativeFormat:
        """A tongue, with its prompt's instruction (a file), opening and positions as asked for."""
        found = make()
        parts, said = found.prompt, dict[str, str]()
        if opening is not None:
            _check_taken(found, "opening", parts.raw is None or "{opening}" in parts.raw)
            said["opening"] = opening
        if instruction is not None:
            _check_taken(found, "instruction", found.instructed)
            said["instruction"] = _text(instruction, "instruction", "a text").strip()
        told = {} if positions is None else {"positions": positions}
        if not said and not told:
            return found
        table = found.model_dump() | {"prompt": parts.model_dump() | said} | told
        return _checked(table, found.name)

    return made


def _check_taken(found: NativeFormat, name: str, taken: bool) -> None:
    """Check that what is set is a part of what is asked."""
    if not taken:
        raise InvalidValue(f"{name}: the prompt of {found.name} has none; leave it out")


def _named(name: str) -> Maker:
    return _maker(lambda: family(name))


DIALECTS: KindRegistry[NativeFormat] = KindRegistry(
    "dialect",
    base=NativeFormat,
    group="parallel_reason.dialects",
    kinds={name: _named(name) for name in FAMILIES},
    elsewhere="none, FILE.toml, module:Name or path.py:Name",
)
"""Ours and those of installed packages: functions that return a `NativeFormat`."""


def choose_format(text: str) -> NativeFormat:
    """The tongue that a text names: ``NAME``, ``FILE.toml`` or ``path.py:function``.

    A name or file may have settings: ``npr:instruction=FILE,positions=engine``.

    Raises:
        UnknownName: there is no such tongue.
        InvalidValue: the file or a setting does not fit.
    """
    match = _FILE.fullmatch(text)
    if match is None:
        return DIALECTS.make(text)
    file = Path(match[1])
    make = _maker(lambda: read_format(file))
    choice = Choice(name=str(file), kind=make)
    pairs = match[2].split(",") if match[2] else ()
    values = DIALECTS.arguments(choice.name, make, pairs)
    return replace(choice, values=values).make(DIALECTS.noun)


def recognise_format(added: Sequence[str], model: str) -> NativeFormat | None:
    """The tongue of a model with these added tokens and this name; None where it has none.

    The family with the most control strings is meant, all of which are added tokens; where several
    have the same ones, the name says which.  Tongues in plain text are told by the name alone.  A
    tokenizer that has all but one or two of a family's strings has a broken one of that family.
    """
    known, name = set(added), model.lower()
    formats = [family(one) for one in FAMILIES]

    def called(one: NativeFormat) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in one.names)

    tagged = [one for one in formats if one.controls]
    for most in (0, BROKEN):
        fit = [one for one in tagged if _missing(one, known) <= most < len(one.controls) - 3]
        if fit:
            return max(fit, key=lambda one: (len(one.controls), called(one)))
    return next((one for one in formats if not one.controls and called(one)), None)


BROKEN = 2
"""So many control strings may be missing for a tokenizer to count as a broken one."""


def _missing(one: NativeFormat, known: set[str]) -> int:
    return sum(control.text not in known for control in one.controls)
