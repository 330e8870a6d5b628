"""A Hub on this machine: as much of its HTTP interface as a download needs, and its faults on demand."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy
import pytest
from safetensors.numpy import save

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}).encode()


def shard(*names: str) -> bytes:
    return save({name: numpy.zeros((64, 64), dtype="float32") for name in names})


CHAT_MODEL = {
    "config.json": CONFIG,
    "generation_config.json": b'{"n": 0}',
    "tokenizer.json": b'{"n": 1}',
    "tokenizer_config.json": b'{"n": 2}',
    "model.safetensors": shard("w"),
    "README.md": b"no",
    "modeling_evil.py": b"no",
    "pytorch_model.bin": b"no",
    "original/consolidated.00.pth": b"no",
}


@dataclass
class LocalHub:
    """`models` maps ids to files; `faults` maps (a part of) a path to what goes wrong there.

    `family` is what the Hub says of the GGUF files.
    """

    models: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"org/chat": dict(CHAT_MODEL)})
    faults: dict[str, int | str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    url: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)
    family: str = ""

    def fetched(self) -> set[str]:
        return {path.rpartition("/")[2] for path in self.requests if path.startswith("GET") and "/resolve/" in path}


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
        self.hub.requests.append(f"{self.command} {path}")
        fault = next((fault for part, fault in self.hub.faults.items() if part in f"{self.command} {path}"), None)
        if fault == "silence":
            self.hub.stopped.wait(60)
            self.close_connection = True
            return
        if fault == "gated":
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        elif isinstance(fault, int):
            self._send(fault, b"fault")
        elif path.startswith("/api/models/"):
            self._info(path.removeprefix("/api/models/"))
        else:
            self._file(path, fault)

    def _info(self, rest: str) -> None:
        name, _, revision = rest.partition("/revision/")
        files = self.hub.models.get(name)
        if files is None:  # the real Hub answers a missing model with 401 where nobody is signed in
            self._send(401, b'{"error":"Invalid username or password."}', {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("", "main", "v1", COMMIT):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            siblings = [{"rfilename": n, "size": len(c), "blobId": "0" * 40} for n, c in files.items()]
            body = {"_id": "1", "id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "tags": []}
            if self.hub.family:
                body["gguf"] = {"total": 1, "architecture": self.hub.family}
            self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _file(self, path: str, fault: int | str | None) -> None:
        name, _, rest = path.lstrip("/").partition("/resolve/")
        content = self.hub.models.get(name, {}).get(rest.partition("/")[2])
        if content is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        if fault == "stall" and self.command == "GET":
            self._stall(content)
            return
        if fault == "slow":
            time.sleep(0.3)
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if start else 200, content[start:], headers)

    def _stall(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:100])
        self.wfile.flush()
        self.hub.stopped.wait(60)
        self.close_connection = True

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def local_hub() -> Iterator[LocalHub]:
    hub = LocalHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield hub
    hub.stopped.set()
    server.shutdown()
    server.server_close()
