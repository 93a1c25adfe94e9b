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
from typing import Literal

from pydantic import ValidationError

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
_FILE = re.compile(r"(.+\.toml)(?::(.*))?", re.S)


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
    try:
        return _parsed(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue(f"dialect: {path} can't be read ({error}); give a TOML file") from error


def _parsed(text: str, where: str) -> NativeFormat:
    try:
        return NativeFormat.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InvalidValue(f"dialect: {where} is no TOML: {error}; mend it") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        why = first["msg"].removeprefix("Value error, ")
        raise InvalidValue(f"dialect: {where}: {field}: {why}; mend it") from error


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
        said = {} if opening is None else {"opening": opening}
        if instruction is not None:
            said["instruction"] = _instruction(instruction)
        prompt = found.prompt.model_copy(update=said)
        found = found.model_copy(update={"prompt": prompt})
        return found if positions is None else found.model_copy(update={"positions": positions})

    return made


def _instruction(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue(f"instruction: {path} can't be read ({error}); give a text") from error


def _named(name: str) -> Maker:
    return _maker(lambda: family(name))


DIALECTS: KindRegistry[NativeFormat] = KindRegistry(
    "dialect",
    base=NativeFormat,
    group="parallel_reason.dialects",
    kinds={name: _named(name) for name in FAMILIES},
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
