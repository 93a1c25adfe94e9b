"""How a model is spoken to: dialects, and forms of threads that share what they wrote."""
