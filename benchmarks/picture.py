"""The README's picture: a real run, as the terminal showed it (results/solve.txt)."""

from __future__ import annotations

import re
from io import StringIO

from rich.console import Console
from rich.text import Text
from tables import RESULTS, ROOT

PICTURE = ROOT / "docs" / "pictures" / "solve.svg"
STYLES = {
    r"^\$ .*": "bold",
    r"^ *✓(?= )": "bold green",
    r"(?<=✓ )[\d.]+": "cyan",
    r"(?<!work )\b\d+ tokens": "dim",
    r"→ .*": "green",
    r"no solution": "dim",
    r"^apr · .*": "bold",
}


def drawn() -> str:
    """The run as SVG."""
    console = Console(record=True, width=88, file=StringIO(), force_terminal=True)
    text = Text((RESULTS / "solve.txt").read_text().rstrip())
    for pattern, style in STYLES.items():
        text.highlight_regex(re.compile(pattern, re.M), style)
    console.print(text)
    drawing = console.export_svg(title="reason solve", unique_id="solve")
    return re.sub(r"@font-face {.*?}\s*", "", drawing, flags=re.S)  # nothing from the network
