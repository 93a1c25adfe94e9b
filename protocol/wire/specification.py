"""The wire as JSON schema, written into the documents::

python -m protocol.wire.specification docs/protocol.schema.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema

from protocol.wire.framing import Beat, DownFrame, Hello, Refused, UpFrame, Welcome
from protocol.wire.messages import VERSION, ThreadStart

MESSAGES = (Hello, Welcome, Refused, DownFrame, UpFrame, Beat, ThreadStart)


def schema() -> dict[str, Any]:
    """Every message, by name; a connection carries one of those at the top in each frame."""
    _, found = models_json_schema(
        [(message, "validation") for message in MESSAGES], title="The protocol of hub and workers"
    )
    top = [message.__name__ for message in MESSAGES if message is not ThreadStart]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "version": VERSION,
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in top],
        **found,
    }


def text() -> str:
    """The schema as it stands in its file."""
    return json.dumps(schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text())
