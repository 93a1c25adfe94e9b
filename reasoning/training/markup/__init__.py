"""What the models of our own markup are, beside their demonstrations."""
