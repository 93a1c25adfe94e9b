"""One module for each command of ``reason``: its options, and what it does."""
