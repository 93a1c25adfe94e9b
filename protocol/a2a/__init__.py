"""A2A 1.0: strategies as the skills of an agent (`operations`, `bindings`), and `RemoteAgent`."""
