"""OpenAI's chat completions and responses over a `Service`."""
