"""The values that all other folders share: contexts of segments, sampling, capabilities."""
