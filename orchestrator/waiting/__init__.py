"""How tasks wait: for others of their graph, for calls that they add, for values from outside."""
