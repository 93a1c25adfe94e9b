"""Strategies whose attempts are written in view of earlier ones."""
