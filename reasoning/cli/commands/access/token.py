"""``reason token``: who may dial a hub."""

from __future__ import annotations

from dataclasses import field

import click

from reasoning.cli.options import (
    Duration,
    TokenStoreOptions,
    argument,
    json_option,
    option,
    options,
    settings_class,
)
from reasoning.cli.printing import print_json, say


@click.group()
def token() -> None:
    """Who may dial a hub: tokens of workers and clients."""


@settings_class
class TokenSettings:
    """The token of one worker or client, and the file that holds it."""

    name: str = argument()
    store: TokenStoreOptions = field(default_factory=TokenStoreOptions)


@settings_class
class CreateTokenSettings(TokenSettings):
    """A new token."""

    scopes: tuple[str, ...] = option(
        "function, tool, thread (what a worker may be given), submit (a client); repeatable.",
        "--scope",
        multiple=True,
        default=("function", "tool", "thread"),
        metavar="SCOPE",
    )
    expires: float | None = option("As 12h or 30d; by default never.", type=Duration())


@token.command()
@options(CreateTokenSettings)
def create(settings: CreateTokenSettings) -> None:
    """Make a token for the worker or client NAME and print it; it is not shown again."""
    store = settings.store.open()
    say(store.create(settings.name, scopes=settings.scopes, expires_s=settings.expires), err=False)


@settings_class
class RotateTokenSettings(TokenSettings):
    """A token that takes another's place."""

    grace: float | None = option("How long the old one is still valid, as 1h.", type=Duration())


@token.command()
@options(RotateTokenSettings)
def rotate(settings: RotateTokenSettings) -> None:
    """Make a new token in place of NAME's and print it."""
    say(settings.store.open().rotate(settings.name, grace_s=settings.grace or 0.0), err=False)


@token.command()
@options(TokenSettings)
def revoke(settings: TokenSettings) -> None:
    """Make NAME's token invalid, and end its connections within seconds."""
    settings.store.open().revoke(settings.name)


@settings_class
class ListTokensSettings:
    """All tokens."""

    store: TokenStoreOptions = field(default_factory=TokenStoreOptions)
    as_json: bool = json_option("a table")


@token.command(name="list")
@options(ListTokensSettings)
def list_tokens(settings: ListTokensSettings) -> None:
    """Show all tokens, but not what they are."""
    import json

    rows = [
        {
            "name": record.name,
            "scopes": sorted(record.scopes),
            "created": _date(record.created),
            "expires": _date(record.expires),
            "revoked": _date(record.revoked),
        }
        for record in settings.store.open().list()
    ]
    if settings.as_json:
        print_json(json.dumps({"schema": "reason.tokens/1", "tokens": rows}, indent=2))
        return
    for row in rows:
        scopes = ",".join(row["scopes"] or ())
        state = f"revoked {row['revoked']}" if row["revoked"] else f"until {row['expires'] or '-'}"
        say(f"{row['name']}\t{scopes}\t{row['created']}\t{state}", err=False)


def _date(at: float | None) -> str | None:
    from datetime import UTC, datetime

    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat("T", "seconds")
