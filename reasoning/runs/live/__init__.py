"""Runs as they happen: what a run's page hears while it runs, and who serves it."""
