"""An append-only record of a run, and going on from it."""
