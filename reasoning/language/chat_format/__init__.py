"""How a chat model writes: its tokens, its template, and calls of tools."""
