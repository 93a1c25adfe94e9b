"""Where a task's function runs when not in this process: processes and Ray."""
