"""A ModelScope on this machine: its list of files, the files, and its faults on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from hub_server import CHAT_MODEL


@dataclass
class LocalModelScope:
    """`models` maps ids to files; of the files in `cut` the first answer has only half."""

    models: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"org/chat-1.5": dict(CHAT_MODEL)})
    cut: set[str] = field(default_factory=set)
    fetched: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    scope: LocalModelScope

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        asked = {key: values[0] for key, values in parse_qs(address.query).items()}
        name, _, what = address.path.removeprefix("/api/v1/models/").partition("/repo")
        files = self.scope.models.get(name)
        if files is None or asked.get("Revision", "master") != "master":
            self._send(404, json.dumps({"Code": 10010205001, "Message": "record not found", "Success": False}).encode())
        elif what == "/files":
            listed = [_listed(path, content) for path, content in files.items()]
            self._send(200, json.dumps({"Code": 200, "Success": True, "Data": {"Files": listed}}).encode())
        else:
            self._file(asked["FilePath"], files[asked["FilePath"]])

    def _file(self, path: str, content: bytes) -> None:
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.scope.fetched.append((path, self.headers.get("Range", "")))
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        whole = path not in self.scope.cut
        self.scope.cut.discard(path)
        self._send(206 if start else 200, content[start:], headers if start else {}, whole=whole)
        if not whole:
            self.close_connection = True

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, whole: bool = True) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if whole else body[: len(body) // 2])
        self.wfile.flush()


def _listed(path: str, content: bytes) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    return {"Path": path, "Name": path, "Type": "blob", "Size": len(content), "Sha256": digest, "Revision": "master"}


@contextmanager
def serving(scope: LocalModelScope) -> Iterator[LocalModelScope]:
    """The server at its `url` for as long as the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"scope": scope}))
    server.daemon_threads = True
    scope.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield scope
    finally:
        server.shutdown()
        server.server_close()
