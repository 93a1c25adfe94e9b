"""What crosses a process border: versioned messages, checked on both sides."""

from protocol.report import SCHEMA, Report, ThreadReport, UsageReport

__all__ = ["SCHEMA", "Report", "ThreadReport", "UsageReport"]
