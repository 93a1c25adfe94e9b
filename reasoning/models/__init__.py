"""Models: shipped ones, folders, servers and devices, each with its backend and dialect."""
