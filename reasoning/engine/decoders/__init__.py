"""Decoders: the native one in torch and in C++, and Hugging Face's with our attention."""
