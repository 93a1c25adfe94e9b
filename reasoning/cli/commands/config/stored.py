"""Settings of commands beside their flags: ``REASON_*`` variables, and then a file in TOML.

In the file, and in variables, a setting is called as its flag is.  Those of models, servers, chat
and sampling hold for every command that has them; any other stands in the table, or behind the
name, of its command: ``[solve]`` with ``n = 8``, and ``REASON_SOLVE_N=8``.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import click

from orchestrator.errors import InvalidValue
from reasoning.cli.options import BackendOptions, ChatOptions, KeepOptions, SamplingOptions

PREFIX = "REASON_"
SHARED = frozenset(
    {
        *("model", "timeout"),
        *(
            one.name
            for kind in (BackendOptions, ChatOptions, KeepOptions, SamplingOptions)
            for one in fields(kind)
        ),
    }
)
"""Settings that hold for every command that has them, by the names of their parameters."""
OTHERS = frozenset({"CONFIG", "HUB", "TOKEN", "DEBUG", "COMPILE"})
"""What other variables are called behind the prefix; those of tests begin with ``TEST_``."""


class Setting(NamedTuple):
    """One option of a command, as ``reason config`` shows it.

    Attributes:
        name: As its flag, without dashes.
        source: Where the value comes from, in words.
    """

    name: str
    value: Any
    source: str


def user_file() -> Path:
    """Where the user's settings are."""
    root = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(root) / "reason" / "config.toml"


def configured(name: str, command: click.Command, others: Collection[str]) -> click.Command:
    """The command, which takes its settings from variables and the file too.

    Args:
        name: Its name.
        others: The names of all commands, each of which may have a table.
    """
    for option in _options(command).values():
        if option.envvar is None:
            option.envvar = list(_variables(name, option))

    def load(ctx: click.Context, _: click.Parameter, file: str | None) -> None:
        ctx.default_map = from_file(file, name, command, others)
        _check_variables(name, command, {*others, "test"} - {name})

    command.params.append(
        click.Option(
            ["--config"],
            metavar="FILE",
            envvar="REASON_CONFIG",
            is_eager=True,
            expose_value=False,
            callback=load,
            help="Settings in TOML; by default the user's, see reason config.",
        )
    )
    return command


def settings(
    name: str, command: click.Command, others: Collection[str], file: str | None
) -> list[Setting]:
    """Every option of a command, its value, and where that comes from.

    Raises:
        InvalidValue: the file can't be used.
    """
    path = _path(file)
    stored = from_file(file, name, command, others)
    found = []
    for called, option in _options(command).items():
        variable = next((one for one in _variables(name, option) if os.environ.get(one)), None)
        key = option.name or ""
        if variable is not None:
            found.append(Setting(called, os.environ[variable], variable))
        elif key in stored:
            found.append(Setting(called, stored[key], str(path)))
        else:
            found.append(Setting(called, _default(option), "default"))
    return found


def from_file(
    file: str | None, name: str, command: click.Command, others: Collection[str]
) -> dict[str, Any]:
    """The settings of a command that a file has, by the names of its parameters.

    Raises:
        InvalidValue: the file can't be read, or has a setting that does not exist.
    """
    stored = _read(file)
    tables = {key: value for key, value in stored.items() if key in others}
    shared = {key: value for key, value in stored.items() if key not in others}
    options = _options(command)
    known = {
        called for called, option in options.items() if option.name in SHARED
    } | _shared_flags()
    _check(file, shared, [*known, *others])
    own = tables.get(name, {})
    if not isinstance(own, Mapping):
        raise InvalidValue(f"config: {name} in {_path(file)} is no table; write [{name}]")
    _check(file, own, options)
    given = {_flag(key): value for key, value in (*shared.items(), *own.items())}
    return {
        option.name or "": _value(option, given[called])
        for called, option in options.items()
        if called in given
    }


def _value(option: click.Option, value: Any) -> Any:
    return [value] if option.multiple and not isinstance(value, list) else value


def _default(option: click.Option) -> Any:
    """The default where it says something."""
    value = None if callable(option.default) else option.default
    return None if value in ((), "{}") or type(value).__name__ == "Sentinel" else value


def _flag(key: str) -> str:
    return key.replace("_", "-")


def _check(file: str | None, given: Mapping[str, Any], known: Collection[str]) -> None:
    from reasoning.registry import nearest

    for key in given:
        if _flag(key) not in known:
            near = nearest(_flag(key), known)
            raise InvalidValue(
                f"config: {_path(file)} has {key!r}, which is no setting; {near}see reason config"
            )


def _check_variables(name: str, command: click.Command, others: Collection[str]) -> None:
    """Refuse a variable that is nearly one of a setting.

    Raises:
        InvalidValue: naming the one that is meant.
    """
    from reasoning.registry import nearest

    shared = {_upper(one) for one in _shared_flags()}
    own = {
        one.removeprefix(PREFIX)
        for option in _options(command).values()
        for one in _variables(name, option)
    }
    elsewhere = tuple(f"{_upper(one)}_" for one in others)  # another command's, or the tests'
    for variable in os.environ:
        rest = variable.removeprefix(PREFIX)
        if rest == variable or rest in OTHERS | shared | own or rest.startswith(elsewhere):
            continue
        near = nearest(rest, own | shared)  # without the prefix, which all have in common
        if near:
            near = near.replace("'", f"'{PREFIX}", 1)
            raise InvalidValue(f"{variable} is no setting; {near}or unset it")


def _upper(called: str) -> str:
    return called.replace("-", "_").upper()


def _variables(name: str, option: click.Option) -> Iterator[str]:
    """The variables that set an option, the first first."""
    if isinstance(option.envvar, str):
        yield option.envvar
        return
    called = _upper(_called(option))
    yield f"{PREFIX}{_upper(name)}_{called}"
    if option.name in SHARED:
        yield f"{PREFIX}{called}"


def _called(option: click.Option) -> str:
    """An option's longest flag, without dashes."""
    return max(option.opts, key=len).lstrip("-")


def _options(command: click.Command) -> dict[str, click.Option]:
    """The options that are settings, by their flags."""
    return {
        _called(one): one
        for one in command.params
        if isinstance(one, click.Option) and one.expose_value and one.name != "as_json"
    }


def _shared_flags() -> frozenset[str]:
    names = {"base_urls": "base-url"}
    return frozenset(names.get(one, _flag(one)) for one in SHARED)


def _path(file: str | None) -> Path:
    return Path(file) if file else user_file()


def _read(file: str | None) -> dict[str, Any]:
    """What a file holds; nothing where the user has none."""
    path = _path(file)
    if not file and not path.is_file():
        return {}
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidValue(f"config: {path} can't be read ({error}); mend it") from error
