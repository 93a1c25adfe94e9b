"""Traces from files: ours, and those that other programs write of their samples."""

from reasoning.evaluation.importers.formats import (
    FORMATS,
    ImportedFile,
    ImportedTraces,
    ImportSettings,
    import_traces,
    read_traces,
)

__all__ = [
    "FORMATS",
    "ImportSettings",
    "ImportedFile",
    "ImportedTraces",
    "import_traces",
    "read_traces",
]
