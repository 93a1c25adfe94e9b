"""What is added to vLLM's model runners, of the first and of the second generation."""
