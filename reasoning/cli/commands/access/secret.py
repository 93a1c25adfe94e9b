"""``reason secret``: what a hub puts into devices' calls."""

from __future__ import annotations

from dataclasses import field

import click

from reasoning.cli.options import SecretStoreOptions, argument, option, options, settings_class
from reasoning.cli.printing import say


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
        say(f"{name}\t{found.parameter}\t{', '.join(sorted(found.devices))}", err=False)
