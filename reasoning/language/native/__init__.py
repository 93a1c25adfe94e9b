"""The tongues of models that were trained to fork and join by themselves, as data."""
