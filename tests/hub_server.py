"""A Hub on this machine: as much of its HTTP interface as a download needs, and its faults on demand.

Large files are kept as the real Hub keeps them: named by their SHA-256, and sent by another host, to which a redirect
leads.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias

import huggingface_hub.constants  # noqa: F401  reads HF_HUB_OFFLINE when it is imported: before any test sets that

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1 << 20
"""Bytes from which on a file is sent by the other host."""

Fault: TypeAlias = int | str
"""A status, or: gated, silence (no answer), stall (half of the body and then nothing), cut (half of it and the
connection is closed), slow."""


def safetensors(*names: str, size: int = 16384) -> bytes:
    """A file of float32 zeros, `size` bytes for each tensor."""
    entries = {
        name: {"dtype": "F32", "shape": [size // 4], "data_offsets": [at * size, (at + 1) * size]}
        for at, name in enumerate(names)
    }
    header = json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size * len(names))


CHAT_MODEL = {
    "config.json": b'{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}',
    "generation_config.json": b'{"n": 0}',
    "tokenizer.json": b'{"n": 1}',
    "tokenizer_config.json": b'{"n": 2, "chat_template": "{{ messages[0].content }}"}',
    "model.safetensors": safetensors("w"),
    "README.md": b"no",
    "modeling_evil.py": b"no",
    "pytorch_model.bin": b"no",
    "tf_model.h5": b"no",
    "original/consolidated.00.pth": b"no",
}


@dataclass
class LocalHub:
    """`models` maps ids to files; `faults` maps (a part of) a request to what goes wrong there.

    Of a list of faults each happens once. `requests` are what was asked for, with the range that was wanted, and
    `tokens` who asked. `family` is what the Hub says of the GGUF files.
    """

    models: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"org/chat": dict(CHAT_MODEL)})
    faults: dict[str, Fault | list[Fault]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    tokens: set[tuple[str, str]] = field(default_factory=set)
    retry_after: str = ""
    commit: str = COMMIT
    token: str = ""
    family: str = ""
    url: str = ""
    released: threading.Event = field(default_factory=threading.Event)
    """Ends every silence and every standstill."""

    def fetched(self) -> set[str]:
        """The names of the files whose content was asked for."""
        paths = (path.partition(" bytes=")[0] for path in self.requests if path.startswith("GET "))
        return {path.rpartition("/")[2] for path in paths if "/resolve/" in path}

    def ranges(self, name: str) -> list[int]:
        """From which byte on a file was asked for, each time."""
        wanted = [path for path in self.requests if path.startswith("GET ") and f"/{name}" in path]
        return [int(path.partition(" bytes=")[2].rstrip("-") or 0) for path in wanted]

    def fault(self, request: str) -> Fault | None:
        """What goes wrong with a request now."""
        for part, fault in self.faults.items():
            if part in request:
                if not isinstance(fault, list):
                    return fault
                return fault.pop(0) if fault else None
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LocalHub

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        wanted = self.headers.get("Range", "")
        request = f"{self.command} {path}"
        self.hub.requests.append(f"{request} {wanted}".rstrip())
        self.hub.tokens.add((path.split("/")[1], self.headers.get("Authorization", "")))
        fault = self.hub.fault(request)
        if fault == "silence":
            self.hub.released.wait()
            self.close_connection = True
        elif fault == "gated":
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        elif isinstance(fault, int):
            self._send(fault, b"fault", {"Retry-After": self.hub.retry_after} if self.hub.retry_after else {})
        elif self.hub.token and self.headers.get("Authorization") not in (None, f"Bearer {self.hub.token}"):
            self._send(401, b'{"error":"Invalid credentials in Authorization header"}')
        elif path.startswith("/api/models/"):
            self._info(path.removeprefix("/api/models/"))
        elif path.startswith("/cdn/"):
            self._content(path.removeprefix("/cdn"), fault)
        else:
            self._file(path, fault)

    def _info(self, rest: str) -> None:
        name, _, revision = rest.partition("/revision/")
        files = self.hub.models.get(name)
        if files is None:  # the real Hub answers a missing model with 401 where nobody is signed in
            self._send(401, b'{"error":"Invalid username or password."}', {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("", "main", "v1", self.hub.commit):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            body = {"_id": "1", "id": name, "modelId": name, "sha": self.hub.commit, "tags": []}
            body["siblings"] = [_sibling(n, content) for n, content in files.items()]
            if self.hub.family:
                body["gguf"] = {"total": 1, "architecture": self.hub.family}
            self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _file(self, path: str, fault: Fault | None) -> None:
        """A small file itself; of a large one what it is and where it is sent from."""
        content = self._stored(path)
        if content is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": self.hub.commit})
        elif len(content) < LARGE:
            self._content(path, fault)
        else:
            host = f"localhost:{self.server.server_address[1]}"
            headers = {"X-Linked-Etag": f'"{_name(content)}"', "X-Linked-Size": str(len(content))}
            headers |= {"X-Repo-Commit": self.hub.commit, "Location": f"http://{host}/cdn{path}"}
            self._send(302, b"", headers)

    def _stored(self, path: str) -> bytes | None:
        name, _, rest = path.lstrip("/").partition("/resolve/")
        return self.hub.models.get(name, {}).get(rest.partition("/")[2])

    def _content(self, path: str, fault: Fault | None) -> None:
        content = self._stored(path)
        if content is None:
            self._send(404, b"")
            return
        if fault == "slow":
            time.sleep(0.3)
        headers = {"ETag": f'"{_name(content)}"', "X-Repo-Commit": self.hub.commit}
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        whole = fault not in ("stall", "cut") or self.command == "HEAD"
        self._send(206 if start else 200, content[start:], headers, whole=whole)
        if not whole:
            if fault == "stall":
                self.hub.released.wait()
            self.close_connection = True

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, whole: bool = True) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if whole else body[: len(body) // 2])
            self.wfile.flush()


def _name(content: bytes) -> str:
    """What the Hub calls a content: Git's name of it, and of a large one its SHA-256."""
    if len(content) >= LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _sibling(name: str, content: bytes) -> dict[str, object]:
    said: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": "0" * 40}
    if len(content) >= LARGE:
        said["lfs"] = {"size": len(content), "sha256": _name(content), "pointerSize": 135}
    else:
        said["blobId"] = _name(content)
    return said


@contextmanager
def serving(hub: LocalHub) -> Iterator[LocalHub]:
    """The hub at its `url` for as long as the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        server.server_close()
