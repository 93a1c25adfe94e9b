"""Training the shipped models: demonstrations by exact solvers, the training loop, the export.

`recipe` says how a run is made, `loop.train` runs it, and `export.export` writes the model as a
Hugging Face folder.  ``python -m reasoning.training`` does both at a terminal.
"""

from reasoning.training.recipe import SHAPES, ModelShape, TrainingRecipe

__all__ = ["SHAPES", "ModelShape", "TrainingRecipe"]
