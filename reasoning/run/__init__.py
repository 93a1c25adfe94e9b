"""A run: threads of reasoning, the policy that steers them, and the solution."""
