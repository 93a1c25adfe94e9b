"""What each key may spend, and the spans of requests."""
