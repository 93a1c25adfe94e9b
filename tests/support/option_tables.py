"""Option tables of docs/cli.md, made from the commands.

After an option has changed: ``python -m tests.support.option_tables`` writes the page anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import click

from reasoning.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
BLOCK = re.compile(r"(<!-- options of ([\w -]+) -->\n)(.*?)(<!-- end -->\n)", re.S)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> dict[str, click.Command]:
    """Every command that does something, by its name with those of its groups."""
    found: dict[str, click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found |= commands(command, (*path, name))
        else:
            found[" ".join((*path, name))] = command
    return found


def table(command: click.Command) -> str:
    """A command's options as a table in Markdown."""
    rows = ["| option | meaning |", "|---|---|"]
    for option in command.params:
        if isinstance(option, click.Option) and (
            record := option.get_help_record(click.Context(command))
        ):
            flags, meaning = (" ".join(text.split()).replace("|", "\\|") for text in record)
            rows.append(f"| `{flags}` | {meaning} |")
    return "\n".join(rows) + "\n"


def filled(page: str) -> str:
    """The page with the tables of today's commands."""
    every = commands(main)
    return BLOCK.sub(lambda found: found[1] + "\n" + table(every[found[2]]) + "\n" + found[4], page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
