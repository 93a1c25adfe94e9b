"""A hub of models on this machine, as far as `huggingface_hub` asks one for files."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0a1b" * 10
_LISTED = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/[^/]+)?(/tree/[^/]+)?")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)")


class _Hub(ThreadingHTTPServer):
    models: Mapping[str, Path]


class _Handler(BaseHTTPRequestHandler):
    server: _Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        file = _FILE.fullmatch(path)
        found = file or _LISTED.fullmatch(path)
        folder = self.server.models.get(found[1]) if found else None
        if found is None or folder is None:
            self._refuse("RepoNotFound")
        elif file is None:
            said = _tree(folder) if found[2] else _model(found[1], folder)
            self._give(json.dumps(said).encode())
        elif (folder / file[2]).is_file():
            self._give((folder / file[2]).read_bytes())
        else:
            self._refuse("EntryNotFound")

    def _give(self, data: bytes) -> None:
        self._answer(200, data, {"ETag": f'"{sha256(data).hexdigest()}"'})

    def _refuse(self, code: str) -> None:
        self._answer(404, b"", {"X-Error-Code": code})

    def _answer(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        always = {"X-Repo-Commit": COMMIT, "Content-Length": f"{len(data)}"}
        for name, value in {**headers, **always}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


def _model(name: str, folder: Path) -> dict[str, object]:
    files = [{"rfilename": file.name} for file in sorted(folder.iterdir())]
    return {"id": name, "sha": COMMIT, "siblings": files}


def _tree(folder: Path) -> list[dict[str, object]]:
    return [
        {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": COMMIT}
        for file in sorted(folder.iterdir())
    ]


@contextmanager
def model_hub(models: Mapping[str, Path]) -> Iterator[str]:
    """The address of a hub that has these folders by name (for ``HF_ENDPOINT``)."""
    server = _Hub(("127.0.0.1", 0), _Handler)
    server.models = models
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
