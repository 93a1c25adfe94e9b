"""Settings beside flags: where they are stored, and the command that shows them."""

from reasoning.cli.commands.config.command import config as config
