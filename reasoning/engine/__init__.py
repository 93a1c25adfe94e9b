"""The embedded engine: many threads over shared keys and values, decoded together."""
