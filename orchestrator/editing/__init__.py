"""Edits of a graph while it runs: versioned, atomic patches and the check for cycles."""
