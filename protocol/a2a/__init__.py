"""A2A 1.0: our strategies as the skills of an agent, and other agents as places to run."""
