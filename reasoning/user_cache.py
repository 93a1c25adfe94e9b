"""Where the project keeps what it can make or find out again."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """The project's folder in the user's cache, which may not exist.

    Raises:
        OSError: there is no home folder.
    """
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise OSError("there is no home folder; set XDG_CACHE_HOME") from error
    return Path(base) / "parallel-reason"
