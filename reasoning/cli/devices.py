"""``reason solve --on devices``: over which hub."""

from __future__ import annotations

import os

from orchestrator.errors import InvalidValue
from protocol import Client, Hub, TokenStore
from reasoning.cli.hub import PORT, read_token, tokens_path
from reasoning.models.devices import RemoteModel

PATIENCE_S = 60.0
"""How long a run waits for a worker that has the model."""


def remote(
    model: str | None, url: str | None, token_file: str | None, backend: object
) -> RemoteModel:
    """The model on the workers of the hub at ``url``, or of one that opens here.

    Raises:
        InvalidValue: the options don't fit each other, or there is no token.
    """
    if backend:
        raise InvalidValue("on: devices bring their own backends; leave out those of this machine")
    submitter: Hub | Client
    if url is not None:
        instance = f"solve.{os.getpid()}"
        submitter = Client(url, read_token(token_file), instance=instance)
    elif token_file is not None:
        raise InvalidValue("token-file: a token is for a hub elsewhere; give --hub as well")
    else:
        submitter = Hub(port=PORT, tokens=TokenStore(tokens_path(None)))
    return RemoteModel.load(model, submitter, patience_s=PATIENCE_S)
