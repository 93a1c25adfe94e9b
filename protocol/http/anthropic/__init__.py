"""Anthropic's messages over a `Service`."""
