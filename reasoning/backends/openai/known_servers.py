"""What was learnt of servers, kept in the user's cache for the next command.

A file holds what one server can do with one model.  It is named by a digest of both and has no
address in it, so that no key that somebody wrote into one lies there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from reasoning.backends.openai.profile import ServerIdentity, ServerProfile
from reasoning.user_cache import user_cache

KEPT = timedelta(days=7)


class KnownServers:
    """The servers that this user has asked before.

    Whatever is wrong with the cache, it is as if nothing were known; writing never fails.
    """

    def find(self, url: str, identity: ServerIdentity) -> ServerProfile | None:
        """What is known of a server, if it is still the one that was asked, and not long ago."""
        try:
            text = self._path(url, identity.model).read_text("utf-8")
            profile = ServerProfile.model_validate_json(text).model_copy(update={"url": url})
        except (OSError, ValueError):
            return None
        if profile.learnt is None or not abs(datetime.now(UTC) - profile.learnt) < KEPT:
            return None
        named = identity.model_dump()
        same = not identity.models or all(getattr(profile, one) == named[one] for one in named)
        return profile if same else None

    def keep(self, profile: ServerProfile) -> None:
        """Remember a server, in place of what was known of it."""
        text = profile.model_copy(update={"url": ""}).model_dump_json()
        with contextlib.suppress(OSError):
            path = self._path(profile.url, profile.model)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, name = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(name, path)

    def forget(self, profile: ServerProfile) -> None:
        """Forget a server that did not do what it was known for."""
        with contextlib.suppress(OSError):
            self._path(profile.url, profile.model).unlink()

    def _path(self, url: str, model: str) -> Path:
        digest = hashlib.sha256(f"{url}\n{model}".encode()).hexdigest()[:32]
        return user_cache() / "servers" / f"{digest}.json"
