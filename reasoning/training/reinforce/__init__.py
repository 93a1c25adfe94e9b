"""Reinforcement learning of a strategy: the model's own runs, judged by the exact verifier.

`recipe` says how a run is made, `rollouts` runs the strategy on the embedded engine and keeps what
every thread sampled, `learner` moves the weights, and `loop.reinforce` does both at once.
``python -m reasoning.training reinforce`` does it at a terminal.
"""
