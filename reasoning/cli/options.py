"""Options of commands: a frozen dataclass for each command, whose fields are its options.

A command that is declared with ``@options(SomeSettings)`` is called with one ``SomeSettings``.  A
field whose ``default_factory`` is such a dataclass brings that one's options along.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, is_dataclass
from functools import partial, update_wrapper
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

import click

from orchestrator.errors import InvalidValue

if TYPE_CHECKING:
    from pathlib import Path

    from click.shell_completion import CompletionItem

    from protocol import Client, Hub, Tls, TokenStore
    from protocol.ufo import SecretStore
    from reasoning.evaluation.importers import ImportedTraces
    from reasoning.models.loaded import LoadedModel
    from reasoning.pool import PoolModel
    from reasoning.runs.record import RecordedRun
    from reasoning.runs.store import RunStore

HUB_PORT = 8765
FIRST_S = 8.0
"""How long a command waits for a hub that it has not reached yet."""
MOST_PROBING_S = 10.0

# ---- declaring -----------------------------------------------------------------------------------

Settings = TypeVar("Settings")
Result = TypeVar("Result")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def settings_class(kind: type[Settings]) -> type[Settings]:
    """Make a frozen dataclass of a command's settings, without what costs time at each start."""
    return dataclass(frozen=True, kw_only=True, eq=False, repr=False)(kind)


def argument(**attributes: Any) -> Any:
    """A field that is an argument of the command; ``attributes`` are those of `click.argument`."""
    make = partial(click.argument, **attributes)
    return field(default=attributes.get("default"), metadata={"make": make})


def option(help: str, *flags: str, **attributes: Any) -> Any:
    """A field that is an option of the command; ``attributes`` are those of `click.option`.

    Without ``flags`` it is called as the field is.  Without a default it is None, an empty tuple
    where it may be repeated, or False for a flag.
    """
    if "default" in attributes:
        attributes.setdefault("show_default", True)
    empty = () if attributes.get("multiple") else False if attributes.get("is_flag") else None

    def make(name: str) -> Callable[..., Any]:
        own = flags or (f"--{name.replace('_', '-')}",)
        return click.option(*own, name, help=help, **attributes)

    return field(default=attributes.get("default", empty), metadata={"make": make})


class NamedOption(click.Option):
    """An option that takes a name of a registry, or a class of the user's own.

    Its help and a shell's completion list the registry's names, which are looked up only then.
    """

    def __init__(self, *flags: Any, registry: str, **attributes: Any) -> None:
        """``registry`` is written as ``module:NAME``; the rest is for `click.Option`."""
        super().__init__(*flags, **attributes)
        self.registry = registry

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        names = ", ".join(self._names())
        return record and (record[0], f"{record[1]}  One of {names}; or module:Name, path.py:Name.")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return _completions(self._names(), incomplete, otherwise="file")

    def _names(self) -> list[str]:
        module, _, name = self.registry.partition(":")
        names: list[str] = getattr(import_module(module), name).names
        return names


def named_option(help: str, registry: str, *flags: str, **attributes: Any) -> Any:
    """A field that is a `NamedOption` with settings, as ``NAME:key=value,key=value``."""
    attributes.setdefault("metavar", "NAME[:key=value,…]")
    return option(help, *flags, cls=NamedOption, registry=registry, **attributes)


def model_option(help: str, *flags: str, **attributes: Any) -> Any:
    """A field that is an option for a model, which a shell completes by those on this machine."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from reasoning.models.catalog import known

        return _completions(known(), incomplete, otherwise="dir")

    attributes.setdefault("metavar", "NAME|PATH")
    return option(help, *flags, shell_complete=complete, **attributes)


def _completions(names: Iterable[str], incomplete: str, otherwise: str) -> list[CompletionItem]:
    """The names that begin so, or else what the shell itself knows of the kind ``otherwise``."""
    from click.shell_completion import CompletionItem

    fitting = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return fitting or [CompletionItem(incomplete, type=otherwise)]


def options(kind: type[Settings]) -> Callable[[Callable[[Settings], Result]], Any]:
    """Give a command the options that ``kind`` declares, and call it with one object of it."""

    def decorate(function: Callable[[Settings], Result]) -> Any:
        def call(**values: Any) -> Result:
            return function(_filled(kind, values))

        command: Callable[..., Result] = update_wrapper(call, function)
        for name, make in [*_declared(kind)][::-1]:
            command = make(name)(command)
        return command

    return decorate


def _group(one: Field[Any]) -> Any:
    """The settings class that a field holds, or None."""
    kind: Any = one.default_factory
    return kind if is_dataclass(kind) else None


def _declared(kind: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The name of each option, and what makes it of its name, in order."""
    for one in fields(kind):
        if group := _group(one):
            yield from _declared(group)
        elif one.metadata:
            yield one.name, one.metadata["make"]


def _filled(kind: Any, values: Mapping[str, Any]) -> Any:
    """An object of ``kind`` that holds the values of the command line."""
    given: dict[str, Any] = {}
    for one in fields(kind):
        if group := _group(one):
            given[one.name] = _filled(group, values)
        elif one.metadata:
            given[one.name] = values[one.name]
    return kind(**given)


def given_options(settings: Any) -> dict[str, Any]:
    """The options of an object of settings that are not at their defaults, by name."""
    given: dict[str, Any] = {}
    for one in fields(settings):
        value = getattr(settings, one.name)
        if _group(one):
            given |= given_options(value)
        elif value not in (one.default, (), {}):
            given[one.name] = value
    return given


def settings_of(kind: type[Settings], command: click.Command, given: Mapping[str, Any]) -> Settings:
    """The settings of which `given_options` told, also after they were JSON.

    Args:
        command: That of ``kind``, which takes no argument that is required; it is not called.
    """
    values = command.make_context(command.name, []).params
    for name, value in given.items():
        values[name] = tuple(value) if isinstance(value, list) else value
    settings: Settings = _filled(kind, values)
    return settings


# ---- values --------------------------------------------------------------------------------------

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A time in seconds, written as ``90``, ``90s``, ``15m``, ``12h`` or ``30d``."""

    name = "time"

    def __init__(self, least: float = 0.0, most: float = 1e10) -> None:
        """Accept what is above 0 and from ``least`` to ``most`` seconds."""
        self.least = least
        self.most = most

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The seconds.

        Raises:
            InvalidValue: it is no time, or out of range.
        """
        if not isinstance(value, str):
            return float(value)
        name = param.opts[0].lstrip("-") if param else self.name
        number, unit = (value[:-1], value[-1:]) if value[-1:] in UNITS else (value, "s")
        try:
            seconds = float(number) * UNITS[unit]
        except ValueError:
            raise InvalidValue(f"{name}: {value!r} is not a time; give 90s, 15m or 12h") from None
        if not (seconds > 0 and self.least <= seconds <= self.most):
            least = f"from {self.least:g}" if self.least else "above 0"
            raise InvalidValue(
                f"{name}: {value} is out of range; give {least} to {self.most:g} seconds"
            )
        return seconds


# ---- shared options ------------------------------------------------------------------------------


def json_option(instead: str = "the answer") -> Any:
    """``--json``."""
    return option(f"Print one JSON object instead of {instead}.", "--json", is_flag=True)


@settings_class
class BackendOptions:
    """Which backend generates, and how it is started or reached."""

    backend: str | None = named_option(
        "What generates; by default openai with --base-url and else embedded.",
        "reasoning.models.loading:BACKENDS",
    )
    base_urls: tuple[str, ...] = option(
        "An OpenAI-compatible server, as http://localhost:8000/v1; repeat for replicas.  @FILE "
        "lists them, and is watched; dns+http://NAME:8000/v1 is all addresses of a name.",
        "--base-url",
        multiple=True,
        metavar="URL",
    )
    engine: tuple[str, ...] = option(
        "A setting of the backend, as max_num_seqs=128; may be repeated.",
        multiple=True,
        metavar="NAME=VALUE",
    )

    dialect: str | None = option(
        "The tongue in which the model forks and joins: a name, such as multiverse, or a TOML "
        "file; by default it is recognised, and none is a chat model's.",
        metavar="NAME|FILE[:key=value,…]",
    )

    @property
    def given(self) -> bool:
        """Whether any of them was given."""
        return bool(self.backend or self.base_urls or self.engine or self.dialect)

    def load(self, model: str | None, *, timeout: float | None = None) -> LoadedModel:
        """The model on this backend; servers are asked what they can do in half of ``timeout``.

        Raises:
            ReasonError: by its leaf, what can't be loaded.
        """
        return self.named(model, timeout=timeout).load()

    def named(self, model: str | None, *, timeout: float | None = None) -> PoolModel:
        """What `load` loads, for any process."""
        from reasoning.pool import PoolModel

        settings = self.engine
        if self.dialect is not None:
            settings = (f"dialect={self.dialect}", *settings)
        if self.base_urls and timeout is not None and timeout < MOST_PROBING_S * 2:
            settings = (f"probe_timeout={timeout / 2}", *settings)
        return PoolModel(
            model=model,
            backend=self.backend,
            base_urls=self.base_urls,
            settings=settings,
        )


def named_draft(name: str) -> PoolModel:
    """A draft by name or folder on the embedded engine, or by a server's address."""
    if "://" in name:
        return BackendOptions(base_urls=(name,)).named(None)
    return BackendOptions().named(name)


class JsonObject(click.ParamType):  # type: ignore[type-arg]
    """A JSON object."""

    name = "json"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        """The object.

        Raises:
            InvalidValue: the text is none.
        """
        if isinstance(value, dict):
            return value
        import json

        name = param.opts[0].lstrip("-") if param else self.name
        try:
            found = json.loads(value)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise InvalidValue(f"{name}: {value!r} is no JSON object; give '{{\"name\": value}}'")
        return found


@settings_class
class SamplingOptions:
    """How tokens are drawn, and where a thread ends."""

    temperature: float | None = option(
        "0 is greedy; by default the model's own, or else the strategy's.", type=float
    )
    top_p: float | None = option(
        "Draw only the likeliest tokens that have this probability together.", type=float
    )
    top_k: int | None = option("Draw only so many of the likeliest tokens.", type=int)
    min_p: float | None = option(
        "Draw only tokens at least this likely, against the likeliest.", type=float
    )
    repetition_penalty: float | None = option(
        "Above 1, tokens that stand there already become less likely.", type=float
    )
    stop: tuple[str, ...] = option(
        "A text that ends a thread and is not shown; may be repeated.",
        multiple=True,
        metavar="TEXT",
    )
    max_new_tokens: int | None = option(
        "The most that each thread generates, beside --max-tokens.", type=int
    )
    allow_repetition: bool = option(
        "Let a chat model repeat itself without end; by default such a thread is ended.",
        is_flag=True,
    )


@settings_class
class ChatOptions:
    """How a chat model is spoken to."""

    system: str | None = option("A system prompt.", metavar="TEXT")
    instruction: str | None = option(
        "What is appended to the question; by default how to give the answer, unless the answer "
        "is read as text; '' is nothing.",
        metavar="TEXT",
    )
    thinking: bool | None = option(
        "Whether the model thinks first, where its chat template has a switch for it.",
        "--thinking/--no-thinking",
        default=None,
    )
    effort: str | None = option(
        "How much it thinks, in its own words, such as low or high.", metavar="WORD"
    )
    chat_template_kwargs: dict[str, Any] = option(
        "More variables of its chat template, as a JSON object.",
        type=JsonObject(),
        metavar="JSON",
        default="{}",
        show_default=False,
    )


@settings_class
class TracesOptions:
    """How files of traces are read."""

    format: str | None = option(
        "Who wrote the files: traces, eval, solve, lm-eval, inspect, deepconf, batch, chat or "
        "texts; by default it is told by what is in them.",
        metavar="NAME",
    )
    gold: str | None = option(
        "JSON lines or CSV with right answers, by id or question, for files that have none.",
        metavar="FILE",
    )
    answer: str | None = option(
        "How answers are read from texts: auto, boxed, text, json or /regex/; by default as auto, "
        "where a file has none.",
        metavar="FORM",
    )
    normalise: bool = option(
        "Answers that say the same are equal; or only equal texts are.",
        "--normalise/--verbatim",
        default=True,
    )
    scored: bool = option(
        "The right answers are those that the file's own scorer found right.", is_flag=True
    )

    def read(self, paths: Sequence[str]) -> ImportedTraces:
        """The questions of the files; what was understood is told on stderr.

        Raises:
            ReasonError: by its leaf, what can't be read.
        """
        from reasoning.cli.printing import warn
        from reasoning.evaluation.importers import ImportSettings, import_traces
        from reasoning.problems.answers import AnswerFormat

        settings = ImportSettings(
            format=self.format,
            gold=self.gold,
            answer=None if self.answer is None else AnswerFormat.parse(self.answer),
            normalise=self.normalise,
            scored=self.scored,
        )
        found = import_traces(paths, settings)
        for line in found.said():
            warn(line)
        return found


@settings_class
class RunStoreOptions:
    """Where runs are kept."""

    store: str | None = option("Where runs are kept; by default the user's file.", metavar="FILE")

    def open(self) -> RunStore:
        """The file that was given, or the user's.

        Raises:
            InvalidValue: the user has no home directory.
        """
        from pathlib import Path

        from reasoning.runs.store import RunStore

        return RunStore(Path(self.store) if self.store else state_file("runs.db"))


@settings_class
class KeepOptions:
    """Whether runs are kept, and how many."""

    keep: bool = option(
        "Keep the run on this machine, for reason runs and reason view.",
        "--keep/--no-keep",
        default=True,
    )
    keep_mb: int = option(
        "MiB that kept runs may take in all; the oldest are forgotten.",
        type=click.IntRange(1, 1 << 20),
        default=256,
    )

    @property
    def store(self) -> RunStore:
        """The user's.

        Raises:
            InvalidValue: the user has no home directory.
        """
        from reasoning.runs.store import RunStore

        return RunStore(state_file("runs.db"), most_bytes=self.keep_mb << 20)

    def add(self, record: Callable[[], RecordedRun]) -> RecordedRun | None:
        """Keep the run that ``record`` makes, if that is wanted; the record, or None.

        Where it can't be kept, one line on stderr says why, and nothing else changes.
        """
        if not self.keep:
            return None
        from reasoning.cli.printing import warn

        try:
            self.store.add(run := record())
        except Exception as error:  # an answer must not be lost because its record was
            warn(f"the run was not kept: {error}; --no-keep leaves this out")
            return None
        return run


@settings_class
class TokenStoreOptions:
    """Where a hub keeps its tokens."""

    tokens: str | None = option(
        "Where tokens are kept; by default the user's file.", metavar="FILE"
    )

    def open(self) -> TokenStore:
        """The file that was given, or the user's.

        Raises:
            InvalidValue: it can't be used.
        """
        from pathlib import Path

        from protocol import TokenStore

        return TokenStore(Path(self.tokens) if self.tokens else state_file("tokens.db"))


@settings_class
class SecretStoreOptions:
    """Where a hub keeps what it puts into calls of devices' tools."""

    secrets: str | None = option(
        "Where secrets are kept; by default the user's file.", metavar="FILE"
    )

    def open(self) -> SecretStore:
        """The file that was given, or the user's."""
        from pathlib import Path

        from protocol.ufo import SecretStore

        return SecretStore(Path(self.secrets) if self.secrets else state_file("secrets.json"))


def state_file(name: str) -> Path:
    """A file of the user's, which `reason` keeps.

    Raises:
        InvalidValue: the user has no home directory.
    """
    from pathlib import Path

    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise InvalidValue(
            f"{name}: there is no home directory to keep it in; set XDG_STATE_HOME, or name a file"
        ) from error
    return Path(state) / "reason" / name


@settings_class
class TokenFileOptions:
    """The token with which a hub is dialled."""

    token_file: str | None = option(
        "Holds the token for the hub, a client's with the scope submit; or it is in REASON_TOKEN.",
        metavar="FILE",
    )

    def read(self) -> str:
        """The token in the file, or in REASON_TOKEN.

        Raises:
            InvalidValue: there is none.
        """
        from pathlib import Path

        where = self.token_file or "REASON_TOKEN"
        try:
            file = self.token_file and Path(self.token_file).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidValue(f"token-file: {where} can't be read ({error})") from error
        token = (os.environ.get("REASON_TOKEN", "") if file is None else file).strip()
        if not token:
            raise InvalidValue(
                f"token: there is none in {where}; make one with reason token create, and give it "
                "by --token-file or REASON_TOKEN"
            )
        return token


@settings_class
class HubOptions:
    """The hub whose workers are used: one elsewhere, or one that opens here."""

    url: str | None = option(
        f"The hub whose workers are used; without it one opens here, on port {HUB_PORT}.",
        "--hub",
        metavar="URL",
        envvar="REASON_HUB",
    )
    token: TokenFileOptions = field(default_factory=TokenFileOptions)

    @property
    def asked_for(self) -> bool:
        """Whether a hub is named for this command, not only by the environment for all."""
        named = self.url is not None and self.url != os.environ.get("REASON_HUB")
        return named or self.token.token_file is not None

    def submitter(self, instance: str) -> Hub | Client:
        """A client of the hub elsewhere, known there by ``instance``, or a hub to be opened here.

        Raises:
            InvalidValue: there is no token, or one and no hub elsewhere.
        """
        from protocol import Client, ClientSettings, Hub, HubSettings

        if self.url is not None:
            dialling = ClientSettings(instance=instance, first_s=FIRST_S)
            return Client(self.url, self.token.read(), dialling)
        if self.token.token_file is not None:
            raise InvalidValue("token-file: a token is for a hub elsewhere; give --hub as well")
        return Hub(HubSettings(port=HUB_PORT), tokens=TokenStoreOptions().open())


@settings_class
class TlsOptions:
    """Certificates of either side."""

    cert: str | None = option("This side's certificate, in PEM.", metavar="FILE")
    key: str | None = option("The certificate's private key.", metavar="FILE")
    ca: str | None = option(
        "Whom to believe; a hub with one asks workers for certificates.", metavar="FILE"
    )
    insecure: bool = option("Plain text beyond this machine.", is_flag=True)

    def load(self) -> Tls | None:
        """The certificates, if any were given."""
        from pathlib import Path

        from protocol import Tls

        files = {"cert": self.cert, "key": self.key, "ca": self.ca}
        given = {name: Path(file) for name, file in files.items() if file is not None}
        return Tls(**given) if given else None
