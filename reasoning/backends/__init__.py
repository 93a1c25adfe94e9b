"""What generates tokens: the embedded engine, vLLM, OpenAI-compatible servers, other devices."""
