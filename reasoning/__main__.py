"""``python -m reasoning`` is the ``reason`` command."""

from reasoning.cli import main

main(prog_name="reason")
