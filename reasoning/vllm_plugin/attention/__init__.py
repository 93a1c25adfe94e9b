"""Attention of a step to other requests' segments, inside vLLM's workers."""
