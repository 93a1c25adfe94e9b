"""The ``reason`` command.  Nothing heavy is imported before a command needs it."""

from reasoning.cli.main import main

__all__ = ["main"]
