"""What runs when: states of tasks, the ready queue, limits, retries, resources and conditions."""
