"""``reason hub``, ``reason worker`` and ``reason token``: reasoning on other machines."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from orchestrator.errors import InvalidValue
from reasoning.cli.options import backend_options

PORT = 8765
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def tokens_path(given: str | None) -> Path:
    """The file of tokens: the one given, or the user's."""
    if given is not None:
        return Path(given)
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "reason" / "tokens.db"


def read_token(file: str | None) -> str:
    """A token from a file, or from REASON_TOKEN.

    Raises:
        InvalidValue: there is none.
    """
    if file is None:
        token = os.environ.get("REASON_TOKEN", "").strip()
        where = "REASON_TOKEN"
    else:
        try:
            token = Path(file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidValue(f"token-file: {file} can't be read ({error})") from error
        where = file
    if not token:
        raise InvalidValue(
            f"token: there is none in {where}; make one with reason token create, and give it by "
            "--token-file or REASON_TOKEN"
        )
    return token


def seconds(text: str | None, name: str) -> float | None:
    """A time such as 90s, 15m, 12h or 30d.

    Raises:
        InvalidValue: it is none.
    """
    if text is None:
        return None
    number, unit = text[:-1], text[-1:]
    try:
        found = float(number) * UNITS[unit]
    except (ValueError, KeyError):
        found = 0.0
    if not 0 < found < 1e10:
        raise InvalidValue(f"{name}: {text!r} is not a time; give one as 90s, 15m, 12h or 30d")
    return found


def tls_options(command: Callable[..., Any]) -> Any:
    """Certificates of either side."""
    options: list[Any] = [
        click.option("--cert", metavar="FILE", help="This side's certificate, in PEM."),
        click.option("--key", metavar="FILE", help="The certificate's private key."),
        click.option(
            "--ca",
            metavar="FILE",
            help="Whom to believe; a hub with one asks workers for certificates.",
        ),
        click.option("--insecure", is_flag=True, help="Plain text beyond this machine."),
    ]
    for option in options[::-1]:
        command = option(command)
    return command


def device_options(command: Callable[..., Any]) -> Any:
    """Whether a run's threads go to workers, and over which hub."""
    options: list[Any] = [
        click.option(
            "--on",
            type=click.Choice(["here", "devices"]),
            default="here",
            show_default=True,
            help="Where threads are generated: devices are workers of a hub.",
        ),
        click.option(
            "--hub",
            metavar="URL",
            envvar="REASON_HUB",
            help=f"The hub of --on devices; without it one opens here, on port {PORT}.",
        ),
        click.option(
            "--token-file",
            metavar="FILE",
            help="Holds the token for --hub, with the scope submit; or it is in REASON_TOKEN.",
        ),
    ]
    for option in options[::-1]:
        command = option(command)
    return command


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="The port; 0 takes a free one and prints it.",
)
@click.option("--tokens", metavar="FILE", help="Where tokens are kept; by default the user's file.")
@click.option(
    "--lease",
    type=click.FloatRange(0.5, 3600),
    default=15,
    show_default=True,
    metavar="SECONDS",
    help="How long a worker that is not heard of keeps its tasks.",
)
@click.option(
    "--ufo",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Let clients of UFO³ in as well, on this port; 0 takes a free one.",
)
@click.option(
    "--pilot",
    metavar="NAME|PATH",
    help="The chat model that carries out requests on their devices.",
)
@backend_options
@tls_options
@click.option("--quiet", "-q", is_flag=True, help="Nothing on stderr when workers come and go.")
def hub(**options: Any) -> int:
    """Run a hub: workers dial in, and clients have it spread tasks over them.

    Its URL goes to stdout, with --ufo followed by that for UFO³'s clients.  Who may dial in is
    said by `reason token`.

    \b
    reason token create laptop > laptop.token
    reason hub
    """
    from reasoning.cli.workers import run_hub

    return run_hub(**options)


@click.command()
@click.option("--hub", "url", metavar="URL", envvar="REASON_HUB", required=True, help="The hub's.")
@click.option(
    "--token-file", metavar="FILE", help="Holds this worker's token; or it is in REASON_TOKEN."
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME|PATH",
    help="A model to generate with, by default reason-5m; may be repeated.",
)
@click.option("--no-model", is_flag=True, help="Only functions and tools.")
@backend_options
@click.option(
    "--threads",
    type=click.IntRange(1, 4096),
    default=16,
    show_default=True,
    help="Threads of reasoning at once on each model.",
)
@click.option(
    "--register",
    "registries",
    multiple=True,
    metavar="MODULE:NAME",
    help="A protocol.Registry of functions and tools to offer; may be repeated.",
)
@click.option("--slots", type=click.IntRange(1, 100_000), help="Functions and tools at once.")
@click.option("--tag", "tags", multiple=True, metavar="WORD", help="A word that tasks can ask for.")
@click.option(
    "--resource",
    "resources",
    multiple=True,
    metavar="NAME=N",
    help="An amount that tasks can ask for, as gpu=2; may be repeated.",
)
@click.option("--name", default="", metavar="NAME", help="Tells apart workers that share a token.")
@tls_options
@click.option("--patience", metavar="TIME", help="Give up on a hub that is gone so long, as 10m.")
@click.option("--quiet", "-q", is_flag=True, help="Nothing on stderr.")
def worker(url: str, **options: Any) -> int:
    """Work for a hub: generate threads of reasoning, call functions and tools.

    It dials out, and dials again after each break.  The first Ctrl-C lets it finish what it has;
    the second stops it at once.

    \b
    reason worker --hub ws://127.0.0.1:8765 --token-file laptop.token
    """
    from reasoning.cli.workers import run_worker

    return run_worker(url, **options)


@click.group()
def token() -> None:
    """Who may dial a hub: tokens of workers and clients."""


_tokens = click.option("--tokens", metavar="FILE", help="Where they are kept.")


@token.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=("function", "tool", "thread"),
    show_default=True,
    metavar="SCOPE",
    help="function, tool, thread (what a worker may be given), submit (a client); repeatable.",
)
@click.option("--expires", metavar="TIME", help="As 12h or 30d; by default never.")
@_tokens
def create(name: str, scopes: tuple[str, ...], expires: str | None, tokens: str | None) -> int:
    """Make a token for the worker or client NAME and print it; it is not shown again."""
    from protocol.hub.tokens import TokenStore

    store = TokenStore(tokens_path(tokens))
    click.echo(store.create(name, scopes=scopes, expires_s=seconds(expires, "expires")))
    return 0


@token.command()
@click.argument("name")
@click.option("--grace", metavar="TIME", help="How long the old one is still valid, as 1h.")
@_tokens
def rotate(name: str, grace: str | None, tokens: str | None) -> int:
    """Make a new token in place of NAME's and print it."""
    from protocol.hub.tokens import TokenStore

    store = TokenStore(tokens_path(tokens))
    click.echo(store.rotate(name, grace_s=seconds(grace, "grace") or 0.0))
    return 0


@token.command()
@click.argument("name")
@_tokens
def revoke(name: str, tokens: str | None) -> int:
    """Make NAME's token invalid, and end its connections within seconds."""
    from protocol.hub.tokens import TokenStore

    TokenStore(tokens_path(tokens)).revoke(name)
    return 0


@token.command(name="list")
@_tokens
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def list_(tokens: str | None, as_json: bool) -> int:
    """Show all tokens, but not what they are."""
    from reasoning.cli.workers import show_tokens

    return show_tokens(tokens_path(tokens), as_json=as_json)


commands = (hub, worker, token)
