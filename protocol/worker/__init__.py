"""A worker: its connection to a hub and the tasks that it runs."""
