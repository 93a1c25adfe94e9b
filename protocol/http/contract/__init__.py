"""What crosses between a server and whoever reasons: conversations, options and results."""
