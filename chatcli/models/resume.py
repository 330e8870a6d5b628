"""One large file into the Hub's cache, going on where an earlier try stopped.

huggingface_hub throws away what it has of a file when a download is interrupted, so the bytes are kept here, under
the name that the finished file will have. Its own code makes the requests and, afterwards, the links.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

LARGE = 1 << 20
"""Bytes from which on a file is worth keeping a part of."""
LARGEST_BY_HTTP = 50_000_000_000
"""The Hub sends larger files through Xet alone, which cannot go on where another process stopped."""
_ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_YES = ("1", "true", "yes", "on")


def partial(blobs: Path, etag: str) -> Path:
    """Where the beginning of a file is kept until all of it is here."""
    return blobs / f"{etag}.incomplete"


def resumable(size: int, blobs: Path, variables: Mapping[str, str]) -> bool:
    """Whether a file is fetched so that it can go on; not where links are files, which would be kept twice.

    Who asks for Xet's highest speed gets that instead.
    """
    from huggingface_hub.file_download import are_symlinks_supported

    fast = variables.get("HF_XET_HIGH_PERFORMANCE", "").lower() in _YES
    return LARGE <= size <= LARGEST_BY_HTTP and not fast and are_symlinks_supported(blobs.parent.parent)


def fetch_blob(url: str, blobs: Path, token: str | None, timeout: float, bar: type[Any]) -> None:
    """Get the file at `url` into the folder of a repository's `blobs`, under the name that the Hub gives it.

    `bar` is the class that is told of the bytes. Nothing is done where the Hub does not name the file.

    Raises:
        OSError: the disk is full; or the parts do not make up the file, and are gone.
    """
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # no __all__

    found = get_hf_file_metadata(url, token=token, timeout=timeout)
    if not found.size or not _ETAG.fullmatch(found.etag or ""):
        return
    blob, part = blobs / str(found.etag), partial(blobs, str(found.etag))
    headers = build_hf_headers(token=token)
    if urlsplit(found.location)[:2] != urlsplit(url)[:2]:
        headers.pop("authorization", None)  # it is for the Hub, not for where the Hub sends us
    blobs.mkdir(parents=True, exist_ok=True)
    locks = blobs.parent.parent / ".locks" / blobs.parent.name
    locks.mkdir(parents=True, exist_ok=True)
    with _patient(locks / f"{found.etag}.lock", bar):
        if blob.exists():
            return
        with part.open("ab") as file:
            start = file.tell()
            if start > found.size:
                start = file.truncate(0)
            if start < found.size:
                http_get(
                    found.location,
                    file,
                    resume_size=start,
                    headers=headers,
                    expected_size=found.size,
                    tqdm_class=bar,
                )
        if start and not _is(part, blob.name):
            part.unlink()
            raise OSError(f"{url.rpartition('/')[2]} arrived damaged and begins anew")
        part.replace(blob)


@contextmanager
def _patient(lock: Path, bar: type[Any]) -> Generator[None]:
    """Hold a lock that another process may have for hours, with a sign of life to `bar` while it has."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # no __all__

    waiting = bar()
    with ExitStack() as held:
        while True:
            waiting.update(0)
            try:
                held.enter_context(WeakFileLock(lock, timeout=1))
            except Timeout:
                continue
            break
        yield


def _is(file: Path, etag: str) -> bool:
    """Whether a file is what its name on the Hub says: SHA-256 of large files, Git's SHA-1 of others."""
    digest = hashlib.sha256() if len(etag) == 64 else hashlib.sha1(b"blob %d\0" % file.stat().st_size)
    with file.open("rb") as opened:
        while piece := opened.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest() == etag
