"""Executors: a task's function runs in worker processes, or on Ray."""
