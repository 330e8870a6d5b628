"""Fetch a repository's files from the Hub into its cache, with progress, and going on where an earlier try stopped.

huggingface_hub makes the requests. This module judges no file's content.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatcli.errors import BrokenCheckpoint, ChatcliError, ModelError
from chatcli.models import transfer
from chatcli.models.cache import pull_note, repository_folder
from chatcli.models.checkpoint import Checkpoint, open_checkpoint
from chatcli.models.gguf_config import require_family
from chatcli.models.naming import HubName
from chatcli.models.refusals import explained
from chatcli.models.resume import fetch_blob, partial, resumable
from chatcli.models.selection import select
from chatcli.models.transfer import Report, Transfer

LONGEST_WAIT = 60.0
"""Seconds that a Hub with too many requests may ask for; it is told to people when it wants more."""
TRIES = 3
_COMMIT = re.compile(r"[0-9a-f]{40}")


def download(
    wanted: HubName,
    revision: str,
    cache: Path,
    variables: Mapping[str, str],
    progress: Report,
    check: Callable[[Checkpoint], None],
) -> Path:
    """What to open of one revision, a folder or a GGUF file, after getting the files that are missing.

    `check` sees the checkpoint before its weights are fetched and may raise; of a GGUF file only its family is looked
    at, and of an adapter nothing.

    Raises:
        ModelNotFound, ModelGated, ModelUnreachable: what the Hub says, or that it says nothing.
        BrokenCheckpoint: the repository holds nothing that could chat.
    """
    hub = _Hub(wanted.repository, revision, cache, variables)
    return hub.transfer.watch(lambda: hub.model(wanted, check), progress, hub)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a revision holds beside its weights.

    `folder` has its small files and is named by the commit; `code` are the names of its Python files, not fetched yet.
    """

    folder: Path
    code: tuple[str, ...]


def survey(wanted: HubName, revision: str, cache: Path, variables: Mapping[str, str], progress: Report) -> Survey:
    """Fetch a revision's small files and tell what code lies beside them. Raises as `download` does."""
    hub = _Hub(wanted.repository, revision, cache, variables)
    return hub.transfer.watch(lambda: hub.small(wanted), progress, hub)


def download_code(repository: str, commit: str, cache: Path, variables: Mapping[str, str], progress: Report) -> None:
    """Fetch the Python files of a commit, to which a person has agreed. Raises as `download` does."""
    hub = _Hub(repository, commit, cache, variables)
    hub.transfer.watch(hub.code, progress, hub)


@dataclass(frozen=True, slots=True)
class _File:
    """A file of a revision; `etag` is the name of its content, empty where the Hub does not say."""

    size: int
    etag: str


class _Hub:
    """One revision of a repository on the Hub. Its methods run beside the caller, who watches `transfer`."""

    def __init__(self, repository: str, revision: str, cache: Path, variables: Mapping[str, str]) -> None:
        self.repository, self.revision, self.cache = repository, revision, cache
        self.endpoint = (variables.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        self.title = f"The Hub ({self.endpoint})"
        self.transfer = Transfer()
        self._folder = repository_folder(cache, repository)
        self._family = ""
        self._variables = variables
        self._token = variables.get("HF_TOKEN") or None

    def explained(self, error: BaseException) -> ChatcliError:
        """One sentence for whatever a request ended with."""
        return explained(error, self.repository, self.revision, self.endpoint, self.cache)

    def model(self, wanted: HubName, check: Callable[[Checkpoint], None]) -> Path:
        """All files that a chat needs; `check` sees the small ones before the weights are fetched."""
        commit, files = self._listing()
        chosen = select(wanted, files)
        if chosen.opens.endswith(".gguf"):
            require_family(self._family, str(wanted))
        if chosen.note:
            self.transfer.say(chosen.note)
        folder = self._begin([*chosen.small, *chosen.weights], commit, files)
        self._fetch_all(chosen.small, commit, files)
        if chosen.is_checkpoint:
            check(open_checkpoint(folder / chosen.opens, str(wanted), commit))
        note = pull_note(self._folder)
        note.parent.mkdir(parents=True, exist_ok=True)
        sizes = {name: files[name].size for name in (*chosen.small, *chosen.weights)}
        note.write_text(json.dumps({"commit": commit, "files": sizes}))
        self._fetch_all(chosen.weights, commit, files)
        # Written last, so that the cache never calls a half-fetched revision the current one.
        _point(self._folder / "refs" / self.revision, commit)
        note.unlink(missing_ok=True)
        return folder / chosen.opens

    def small(self, wanted: HubName) -> Survey:
        """The small files, and the names of those with code."""
        commit, files = self._listing()
        small = select(wanted, files).small
        folder = self._begin(small, commit, files)
        self._fetch_all(small, commit, files)
        return Survey(folder / wanted.subfolder, tuple(_code(files)))

    def code(self) -> None:
        """The files with code."""
        commit, files = self._listing()
        self._begin(_code(files), commit, files)
        self._fetch_all(_code(files), commit, files)

    def _listing(self) -> tuple[str, dict[str, _File]]:
        """The commit that the revision stands for, and its files."""
        from huggingface_hub import HfApi, constants
        from huggingface_hub.utils import logging

        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        # Ten megabytes at once, the default, look like a standstill on a slow line.
        constants.DOWNLOAD_CHUNK_SIZE = 256 * 1024
        api = HfApi(self.endpoint, token=self._token)
        info = self._patiently(
            lambda: api.model_info(
                self.repository, revision=self.revision, timeout=transfer.ANSWER_SECONDS, files_metadata=True
            )
        )
        self._family = str((info.gguf or {}).get("architecture") or "")
        files = {
            s.rfilename: _File(s.size or 0, s.lfs.sha256 if s.lfs else s.blob_id or "") for s in info.siblings or ()
        }
        if not _COMMIT.fullmatch(str(info.sha)) or any(map(_leads_out, files)):
            raise BrokenCheckpoint(
                f"{self.title} names a commit or a file of {self.repository} that would lie outside the cache: "
                "do not trust it."
            )
        return str(info.sha), files

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """What `ask` returns, asked again after the time that a Hub with too many requests wants."""
        from huggingface_hub.errors import HfHubHTTPError

        left = TRIES
        while True:
            try:
                return ask()
            except HfHubHTTPError as error:
                left -= 1
                wait = error.response.headers.get("Retry-After", "")
                if error.response.status_code != 429 or not left or not wait.isdecimal() or int(wait) > LONGEST_WAIT:
                    raise
                self.transfer.pause(float(wait))

    def _begin(self, names: Sequence[str], commit: str, files: Mapping[str, _File]) -> Path:
        """Note how much will come and that there is room for it; returns where it goes."""
        folder = self._folder / "snapshots" / commit
        here = {name: self._here(folder / name, files[name]) for name in names}
        self.transfer.begin({name: files[name].size for name in names}, here)
        _require_space(self.cache, sum(files[name].size - here[name] for name in names))
        return folder

    def _here(self, file: Path, meant: _File) -> int:
        """How many bytes of a file an earlier download has left."""
        blobs = self._folder / "blobs"
        if file.exists() or (meant.etag and (blobs / meant.etag).exists()):
            return meant.size
        part = partial(blobs, meant.etag)
        return min(part.stat().st_size, meant.size) if meant.etag and part.exists() else 0

    def _fetch_all(self, names: Sequence[str], commit: str, files: Mapping[str, _File]) -> None:
        missing = [name for name in names if not (self._folder / "snapshots" / commit / name).exists()]
        self.transfer.fetch_all(missing, lambda name: self._fetch(name, commit, files[name].size))

    def _fetch(self, name: str, commit: str, size: int) -> None:
        from huggingface_hub import hf_hub_download, hf_hub_url

        bar, blobs = _bar(self.transfer, name), self._folder / "blobs"
        self.transfer.arrived(name, 0)
        if resumable(size, blobs, self._variables):
            url = hf_hub_url(self.repository, name, revision=commit, endpoint=self.endpoint)
            fetch_blob(url, blobs, self._token, transfer.ANSWER_SECONDS, bar)
        hf_hub_download(
            self.repository,
            name,
            revision=commit,
            cache_dir=self.cache,
            endpoint=self.endpoint,
            token=self._token,
            etag_timeout=transfer.ANSWER_SECONDS,
            tqdm_class=bar,
        )
        self.transfer.arrived(name, size)  # all of it, however the file came; no file counts beyond its size


def _leads_out(name: str) -> bool:
    return name.startswith("/") or "\\" in name or ".." in name.split("/")


def _code(files: Iterable[str]) -> list[str]:
    return sorted(name for name in files if name.endswith(".py"))


def _bar(told: Transfer, name: str) -> type[Any]:
    """As much of tqdm's bar as huggingface_hub calls: draws nothing, and tells of the bytes of a file."""

    class Bar:
        def __init__(self, **options: Any) -> None:
            self.total = options.get("total")
            self.n = options.get("initial") or 0
            self.format_dict: dict[str, Any] = {}

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *error: object) -> None:
            """Nothing to close."""

        def update(self, n: float | None = 1) -> None:
            """Bytes written to disk."""
            told.arrived(name, int(n or 0))

        def update_transfer(self, n: float) -> None:
            """Bytes from the network: with hf-xet more or fewer than are written, but a sign of life."""
            self.update(0)

        def close(self) -> None:
            """Nothing to close."""

        def refresh(self, **options: object) -> None:
            """Nothing to draw."""

        def set_postfix_str(self, text: str = "", refresh: bool = True) -> None:
            """Nothing to write."""

    return Bar


def _point(reference: Path, commit: str) -> None:
    """Let a branch or tag stand for a commit; whole or not at all."""
    if reference.name == commit:
        return
    reference.parent.mkdir(parents=True, exist_ok=True)
    fresh = reference.with_name(f"{reference.name}.{os.getpid()}")
    fresh.write_text(commit, encoding="ascii")
    fresh.replace(reference)


def _require_space(cache: Path, size: int) -> None:
    existing = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        raise ModelError(
            f"The model's files take {size / 1e9:.1f} GB more, but the disk of {cache} has {free / 1e9:.1f} GB free: "
            "free some, or set HF_HOME to a folder on another disk."
        )
