"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def backend_options(command: Callable[..., Any]) -> Any:
    """Which backend generates, and how it is started or reached."""
    options: list[Any] = [
        click.option(
            "--backend",
            metavar="NAME",
            help="embedded, vllm or openai; by default openai with --base-url and else embedded.",
        ),
        click.option(
            "--base-url",
            "base_urls",
            multiple=True,
            metavar="URL",
            help="An OpenAI-compatible server, as http://localhost:8000/v1; repeat for replicas.",
        ),
        click.option(
            "--engine",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            help="A setting of the backend, as max_num_seqs=128; may be repeated.",
        ),
    ]
    for option in options[::-1]:
        command = option(command)
    return command
