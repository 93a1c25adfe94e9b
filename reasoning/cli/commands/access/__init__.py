"""Commands for whoever runs a hub: who may dial it, and what it keeps for devices."""
