"""What hub, workers and clients say to each other: messages, framing, payloads, connections."""
