"""What runs when: states of tasks, the ready queue, limits, retries, joins and conditions."""
