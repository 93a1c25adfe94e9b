"""``reason token``: who may dial a hub; ``reason secret``: what it puts into devices' calls."""

from __future__ import annotations

from dataclasses import field

import click

from reasoning.cli.options import (
    Duration,
    SecretStoreOptions,
    TokenStoreOptions,
    argument,
    json_option,
    option,
    options,
    settings_class,
)


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
    click.echo(store.create(settings.name, scopes=settings.scopes, expires_s=settings.expires))


@settings_class
class RotateTokenSettings(TokenSettings):
    """A token that takes another's place."""

    grace: float | None = option("How long the old one is still valid, as 1h.", type=Duration())


@token.command()
@options(RotateTokenSettings)
def rotate(settings: RotateTokenSettings) -> None:
    """Make a new token in place of NAME's and print it."""
    click.echo(settings.store.open().rotate(settings.name, grace_s=settings.grace or 0.0))


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
        click.echo(json.dumps({"schema": "reason.tokens/1", "tokens": rows}, indent=2))
        return
    for row in rows:
        scopes = ",".join(row["scopes"] or ())
        state = f"revoked {row['revoked']}" if row["revoked"] else f"until {row['expires'] or '-'}"
        click.echo(f"{row['name']}\t{scopes}\t{row['created']}\t{state}")


def _date(at: float | None) -> str | None:
    from datetime import UTC, datetime

    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat("T", "seconds")


@click.group()
def secret() -> None:
    """Secrets that a hub puts into calls of devices' tools, out of sight of whoever plans them."""


@settings_class
class SecretSettings:
    """A secret, and the file that holds it."""

    name: str = argument()
    store: SecretStoreOptions = field(default_factory=SecretStoreOptions)


@settings_class
class SetSecretSettings(SecretSettings):
    """What a secret is for."""

    devices: tuple[str, ...] = option(
        "A device that may be told it, by its id at the hub; repeatable.",
        "--device",
        multiple=True,
        required=True,
        metavar="ID",
    )
    parameter: str = option("The tools' parameter that it fills in.", default="api_key")


@secret.command(name="set")
@options(SetSecretSettings)
def set_secret(settings: SetSecretSettings) -> None:
    """Keep the secret NAME, read from stdin; a hub that runs uses it from the next call on.

    \b
    reason secret set linux-tools --device dev1 < key.txt
    """
    import sys

    typed = sys.stdin.isatty()
    value = click.prompt("Secret", hide_input=True) if typed else sys.stdin.read().strip()
    settings.store.open().set(
        settings.name, value, parameter=settings.parameter, devices=frozenset(settings.devices)
    )


@secret.command(name="remove")
@options(SecretSettings)
def remove_secret(settings: SecretSettings) -> None:
    """Forget the secret NAME."""
    settings.store.open().remove(settings.name)


@settings_class
class ListSecretsSettings:
    """All secrets."""

    store: SecretStoreOptions = field(default_factory=SecretStoreOptions)


@secret.command(name="list")
@options(ListSecretsSettings)
def list_secrets(settings: ListSecretsSettings) -> None:
    """Show what there is, but not the secrets themselves."""
    for name, found in settings.store.open().all().items():
        click.echo(f"{name}\t{found.parameter}\t{', '.join(sorted(found.devices))}")
