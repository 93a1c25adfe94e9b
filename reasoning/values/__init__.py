"""The values that everything shares: contexts of segments, and sampling."""
