"""``reason config``: each setting of a command, its value, and where that comes from."""

from __future__ import annotations

import click

from reasoning.cli.options import argument, option, options, settings_class
from reasoning.cli.printing import print_json, say

FIELDS = ("name", "value", "source")


@settings_class
class ConfigSettings:
    """Whose settings are shown."""

    command: str = argument(default="solve", required=False)
    all_settings: bool = option("Also those that are not set.", "--all", is_flag=True)
    file: str | None = option(
        "Settings in TOML; by default the user's.",
        "--config",
        metavar="FILE",
        envvar="REASON_CONFIG",
    )
    as_json: bool = option("Print one JSON object instead of lines.", "--json", is_flag=True)


@click.command()
@options(ConfigSettings)
def config(settings: ConfigSettings) -> None:
    """Show what is set for COMMAND (solve) beside its flags, and where.

    A flag wins over a variable (REASON_MODEL, or REASON_SOLVE_N for one command alone), and that
    over the file.  What stands at the file's top holds for all commands, a table for its own:

    \b
    base-url = "http://localhost:8000/v1"
    temperature = 0.6
    [solve]
    n = 8
    """
    from orchestrator.errors import UnknownName
    from reasoning.cli.commands.config.stored import settings as found
    from reasoning.cli.commands.config.stored import user_file
    from reasoning.cli.main import COMMANDS, main
    from reasoning.registry import nearest

    command = main.get_command(click.Context(main), settings.command)
    if command is None or isinstance(command, click.Group):
        near = nearest(settings.command, COMMANDS)
        raise UnknownName(f"command: {settings.command!r} has no settings; {near}give solve")
    shown = [
        one
        for one in found(settings.command, command, COMMANDS, settings.file)
        if settings.all_settings or one.source != "default"
    ]
    if settings.as_json:
        import json

        print_json(json.dumps([dict(zip(FIELDS, one, strict=True)) for one in shown], default=str))
        return
    for name, value, source in shown:
        say(f"{name} = {'' if value is None else value}  ({source})", err=False)
    if not shown:
        say(f"nothing is set; flags, REASON_* variables and {user_file()} are looked at", err=False)
