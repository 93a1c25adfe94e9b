"""A run as data, diagrams, a timeline page and OpenTelemetry spans."""
