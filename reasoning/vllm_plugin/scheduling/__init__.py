"""Named segments and gangs of requests, inside vLLM's scheduler."""
