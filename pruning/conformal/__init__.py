"""Conformal p-values and controllers that hold a rate."""
