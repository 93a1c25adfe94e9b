"""``reason runs`` and ``reason view``: runs that are kept."""
