"""The ``serve`` command and its options."""

from __future__ import annotations

from typing import Any

import click

from reasoning.cli.options import backend_options


@click.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME|PATH",
    help="A shipped model (reason-5m), a Hugging Face folder, or a model's name on a server; "
    "may be repeated.",
)
@backend_options
@click.option("--a2a", is_flag=True, help="Be an A2A agent too: strategies are its skills.")
@click.option(
    "--public-url",
    metavar="URL",
    help="Where others reach the server, for the A2A card; by default the address it listens on.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="The port; 0 takes a free one and prints it.",
)
@click.option(
    "--api-key-file",
    metavar="FILE",
    help="One bearer key, or sha256: and its hash, a line; without it nobody is asked for one.",
)
@click.option("--insecure", is_flag=True, help="Listen beyond this machine without a key.")
@click.option(
    "--allow-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="A web origin, as http://localhost:3000, whose pages may ask; may be repeated.",
)
@click.option(
    "--max-concurrent",
    type=click.IntRange(1, 1024),
    default=4,
    show_default=True,
    help="Runs at once.",
)
@click.option(
    "--max-queued",
    type=click.IntRange(0, 10_000),
    default=16,
    show_default=True,
    help="Requests that wait for their turn; more are told to come back.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 86400, min_open=True),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="How long a run may take; it then answers with what there is.",
)
@click.option(
    "--drain",
    type=click.FloatRange(1, 3600),
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="How long runs may go on after a signal to stop.",
)
def serve(models: tuple[str, ...], **options: Any) -> int:
    """Serve an OpenAI-compatible API: every strategy on every model is a model of its own.

    \b
    reason serve --port 8000
    curl localhost:8000/v1/chat/completions -H 'Content-Type: application/json' -d '{
      "model": "reason-5m/apr",
      "messages": [{"role": "user", "content": "Use 3, 10, 21 and 23 to make 50"}]}'
    """
    from reasoning.cli.serve import run

    return run(models, **options)
