"""Judges that read the beginnings of two traces with an encoder and say whether they will agree.

What policies and drivers see of them is in `pruning.judge`, which stays free of models and files.
"""
