"""Trained judges: encoders that read the beginnings of two traces and predict whether they agree.

`pruning.judge` has what policies and drivers see of a judge; it knows no models and no files.
"""
