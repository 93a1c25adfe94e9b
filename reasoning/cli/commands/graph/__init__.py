"""``reason graph``: runs of task graphs by their journals."""

from reasoning.cli.commands.graph.journals import graph as graph
