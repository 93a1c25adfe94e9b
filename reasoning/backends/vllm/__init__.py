"""vLLM in this process as a backend."""
