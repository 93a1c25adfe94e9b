"""The hub: who may connect, which task waits or runs where, and who hears of its end."""
