"""Fetch a repository's files from the Hub into its cache, with progress and with deadlines of our own.

huggingface_hub does the transfers; it has no deadline for a Hub that accepts and never answers, so the
work runs beside the caller, who watches for the next byte. This module judges no file's content.
"""

from __future__ import annotations

import os
import queue
import shutil
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from chatcli.errors import BrokenCheckpoint, ModelError, ModelUnreachable
from chatcli.generation import Progress
from chatcli.models.cache import needed, repository_folder
from chatcli.models.checkpoint import Checkpoint, open_checkpoint
from chatcli.models.refusals import explained, nothing_to_run

ANSWER_SECONDS = 10.0
"""How long the Hub may take to say what a repository holds."""
STALL_SECONDS = 30.0
"""How long a download may go without a byte."""
_STREAMS = 4


def download(
    repository: str,
    revision: str,
    cache: Path,
    variables: Mapping[str, str],
    progress: Callable[[Progress], None],
    check: Callable[[Checkpoint], None],
) -> Path:
    """The folder that holds one revision's files, after getting those that are missing.

    `check` sees the checkpoint before its weights are fetched and may raise.

    Raises:
        ModelNotFound, ModelGated, ModelUnreachable: what the Hub says, or that it says nothing.
        BrokenCheckpoint: the repository holds nothing that could chat.
    """
    endpoint = (variables.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    transfer = _Transfer(repository, revision, cache, endpoint, variables.get("HF_TOKEN") or None, check)
    progress(Progress("asking the Hub"))
    threading.Thread(target=transfer.run, name="download", daemon=True).start()
    done, patience = 0, ANSWER_SECONDS
    try:
        while True:
            event = transfer.events.get(timeout=patience)
            if isinstance(event, Path):
                return event
            if isinstance(event, BaseException):
                raise explained(event, repository, revision, endpoint, cache) from event
            patience = STALL_SECONDS
            done += event
            progress(Progress("downloading", min(done, transfer.total), transfer.total, "B"))
    except queue.Empty:
        silence = "sent nothing" if transfer.total else "did not answer"
        raise ModelUnreachable(
            f"The Hub ({endpoint}) {silence} for {patience:.0f} seconds: try again later, "
            "or name a model that is on this machine."
        ) from None
    finally:
        transfer.stopped.set()


class _Stopped(BaseException):
    """Ends a transfer that nobody waits for any more."""


class _Transfer:
    """The work beside the caller. Its `events` are bytes received, and at last a folder or an error."""

    def __init__(
        self,
        repository: str,
        revision: str,
        cache: Path,
        endpoint: str,
        token: str | None,
        check: Callable[[Checkpoint], None],
    ) -> None:
        self.total = 0
        self.events: queue.Queue[int | Path | BaseException] = queue.Queue()
        self.stopped = threading.Event()
        self._repository, self._revision, self._cache = repository, revision, cache
        self._endpoint, self._token, self._check = endpoint, token, check

    def run(self) -> None:
        try:
            self.events.put(self._run())
        except BaseException as error:
            self.events.put(error)

    def _run(self) -> Path:
        from huggingface_hub import HfApi, constants
        from huggingface_hub.utils import logging

        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        # Ten megabytes at once, the default, look like a standstill on a slow line.
        constants.DOWNLOAD_CHUNK_SIZE = 256 * 1024
        info = HfApi(self._endpoint, token=self._token).model_info(
            self._repository, revision=self._revision, timeout=ANSWER_SECONDS, files_metadata=True
        )
        commit, sizes = str(info.sha), {s.rfilename: s.size or 0 for s in info.siblings or ()}
        small, weights = needed(sizes)
        if not weights or "config.json" not in small:
            raise BrokenCheckpoint(nothing_to_run(self._repository, sizes))
        folder = repository_folder(self._cache, self._repository) / "snapshots" / commit
        self.total = sum(sizes[name] for name in (*small, *weights))
        self.events.put(0)
        _require_space(self._cache, sum(sizes[n] for n in (*small, *weights) if not (folder / n).exists()))
        self._fetch_all(small, commit, sizes)
        self._check(open_checkpoint(folder, self._repository, commit))
        self._fetch_all(weights, commit, sizes)
        # Written last, so that the cache never calls a half-fetched revision the current one.
        _point(repository_folder(self._cache, self._repository) / "refs" / self._revision, commit)
        return folder

    def _fetch_all(self, names: Sequence[str], commit: str, sizes: Mapping[str, int]) -> None:
        """Several files at a time, in threads that do not keep the process alive as a pool's would."""
        waiting = deque(names)
        errors: list[BaseException] = []

        def work() -> None:
            try:
                while waiting and not errors:
                    self._fetch(name := waiting.popleft(), commit, sizes[name])
            except IndexError:
                return
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(_STREAMS, len(names)))]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) and not errors:
            threads[-1].join(0.05)
            threads = [thread for thread in threads if thread.is_alive()] or threads
        if errors:
            raise errors[0]

    def _fetch(self, name: str, commit: str, size: int) -> None:
        from huggingface_hub import hf_hub_download

        transfer = self
        seen = 0

        class Counter(_Bar):
            def update(self, n: float | None = 1) -> None:
                nonlocal seen
                if transfer.stopped.is_set():
                    raise _Stopped
                seen += int(n or 0)
                transfer.events.put(int(n or 0))

        hf_hub_download(
            self._repository,
            name,
            revision=commit,
            cache_dir=self._cache,
            endpoint=self._endpoint,
            token=self._token,
            etag_timeout=ANSWER_SECONDS,
            tqdm_class=Counter,
        )
        self.events.put(size - seen)


class _Bar:
    """As much of tqdm's bar as huggingface_hub calls; draws nothing."""

    def __init__(self, **options: Any) -> None:
        self.total = options.get("total")
        self.n = options.get("initial") or 0
        self.format_dict: dict[str, Any] = {}

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to close."""

    def update(self, n: float | None = 1) -> None:
        """Bytes written to disk."""

    def update_transfer(self, n: float) -> None:
        """Bytes from the network: with hf-xet more or fewer than are written, but a sign of life."""
        self.update(0)

    def close(self) -> None:
        """Nothing to close."""

    def refresh(self, **options: object) -> None:
        """Nothing to draw."""

    def set_postfix_str(self, text: str = "", refresh: bool = True) -> None:
        """Nothing to write."""


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
