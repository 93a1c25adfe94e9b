"""A kept run as one page of HTML, which needs no network and no other file."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib.resources import files

from reasoning.runs.record import RecordedRun

_PLACE = re.compile(r"\{\{(title|policy|style|script|data)\}\}")
_LONGEST_TITLE = 80


def run_page(run: RecordedRun) -> str:
    """The page of a run.

    What a model or a user wrote reaches it as JSON alone, and its script puts it there as text.
    The page's policy lets no other script run and nothing be fetched.
    """
    home = files("reasoning.runs")
    page, style, script = (
        home.joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    question = " ".join(run.report.problem.split())
    parts = {
        "title": html.escape(f"{question[:_LONGEST_TITLE]} – run {run.id}"),
        "policy": (
            f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
            "base-uri 'none'; form-action 'none'"
        ),
        "style": style,
        "script": script,
        "data": _inert(run),
    }
    # In one pass: a question that looks like a place of the page is a question.
    return _PLACE.sub(lambda place: parts[place[1]], page)


def _inert(run: RecordedRun) -> str:
    """The run as JSON in which nothing can end or begin an element of a page."""
    text = json.dumps(run.model_dump(mode="json", by_alias=True), separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
