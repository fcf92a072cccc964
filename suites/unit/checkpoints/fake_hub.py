"""A hub of this machine: serves the files of one folder as a model, in two commits, over HTTP."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMITS = {"main": "a" * 40, "v1": "b" * 40}
NAME = "someone/tiny"


@dataclass
class Hub:
    """The folders by commit, and what was asked for."""

    folders: dict[str, Path]
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def files(self, commit: str) -> dict[str, bytes]:
        folder = self.folders[commit]
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is printed."""

        def _answer(self, body: bool) -> None:
            hub.asked.append(self.path)
            api, resolve = f"/api/models/{NAME}", f"/{NAME}/resolve/"
            if self.path.startswith(api):
                named = (
                    self.path[len(api) :].partition("?")[0].removeprefix("/revision/").removeprefix("/tree/") or "main"
                )
                commit = COMMITS.get(named, named)
                if commit not in hub.folders:
                    return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
                if "/tree/" in self.path:
                    tree = [
                        {"type": "file", "path": f, "size": len(c), "oid": _oid(c)}
                        for f, c in hub.files(commit).items()
                    ]
                    return self._send(200, json.dumps(tree).encode(), {}, body)
                siblings = [{"rfilename": file} for file in hub.files(commit)]
                found = {"id": NAME, "modelId": NAME, "sha": commit, "siblings": siblings, "private": False, "tags": []}
                return self._send(200, json.dumps(found).encode(), {}, body)
            if self.path.startswith(resolve):
                revision, _, file = self.path[len(resolve) :].partition("?")[0].partition("/")
                commit = COMMITS.get(revision, revision)
                content = hub.files(commit).get(file)
                if content is not None:
                    headers = {"X-Repo-Commit": commit, "ETag": f'"{_oid(content)}"'}
                    return self._send(200, content, headers, body)
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)

        def _send(self, code: int, content: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(code)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    return Handler


def _oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@contextmanager
def served(folders: dict[str, Path]) -> Iterator[Hub]:
    """Serves ``folders``, by the names of :data:`COMMITS`."""
    hub = Hub({COMMITS[name]: folder for name, folder in folders.items()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
