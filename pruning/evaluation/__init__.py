"""Stored traces, a policy replayed over them, and statistics of the outcomes."""
