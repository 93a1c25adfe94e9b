"""The ``reason`` command.  Nothing heavy is imported before a command needs it."""

try:
    from reasoning.cli.main import main
except ImportError as error:
    from reasoning.foreign import in_our_place

    if message := in_our_place(error):
        raise SystemExit(f"reason: {message}") from error
    raise

__all__ = ["main"]
