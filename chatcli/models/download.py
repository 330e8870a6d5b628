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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

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

_Result = TypeVar("_Result")


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
    transfer = _Transfer(repository, revision, cache, variables)
    return _awaited(transfer, lambda: transfer.model(check), progress)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a revision holds beside its weights.

    `folder` has its small files and is named by the commit; `code` are the names of its Python files, not fetched yet.
    """

    folder: Path
    code: tuple[str, ...]


def survey(
    repository: str, revision: str, cache: Path, variables: Mapping[str, str], progress: Callable[[Progress], None]
) -> Survey:
    """Fetch a revision's small files and tell what code lies beside them. Raises as `download` does."""
    transfer = _Transfer(repository, revision, cache, variables)
    return _awaited(transfer, transfer.small, progress)


def download_code(
    repository: str, commit: str, cache: Path, variables: Mapping[str, str], progress: Callable[[Progress], None]
) -> None:
    """Fetch the Python files of a commit, to which a person has agreed. Raises as `download` does."""
    transfer = _Transfer(repository, commit, cache, variables)
    _awaited(transfer, transfer.code, progress)


def _awaited(transfer: _Transfer, work: Callable[[], _Result], progress: Callable[[Progress], None]) -> _Result:
    """What `work` returns, done beside the caller, who reports what arrives and gives up when nothing does."""
    events, endpoint = transfer.events, transfer.endpoint
    result: list[_Result] = []

    def run() -> None:
        try:
            result.append(work())
            events.put(None)
        except BaseException as error:
            events.put(error)

    progress(Progress("asking the Hub"))
    threading.Thread(target=run, name="download", daemon=True).start()
    done, patience = 0, ANSWER_SECONDS
    try:
        while True:
            event = events.get(timeout=patience)
            if event is None:
                return result[0]
            if isinstance(event, BaseException):
                raise explained(event, transfer.repository, transfer.revision, endpoint, transfer.cache) from event
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
    """The work beside the caller. Its `events` are bytes received, and at last None or an error."""

    def __init__(self, repository: str, revision: str, cache: Path, variables: Mapping[str, str]) -> None:
        self.repository, self.revision, self.cache = repository, revision, cache
        self.endpoint = (variables.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        self.total = 0
        self.events: queue.Queue[int | BaseException | None] = queue.Queue()
        self.stopped = threading.Event()
        self._token = variables.get("HF_TOKEN") or None

    def model(self, check: Callable[[Checkpoint], None]) -> Path:
        """All files that a chat needs; `check` sees the small ones before the weights are fetched."""
        commit, sizes = self._listing()
        small, weights = needed(sizes)
        if not weights or "config.json" not in small:
            raise BrokenCheckpoint(nothing_to_run(self.repository, sizes))
        folder = self._begin([*small, *weights], commit, sizes)
        self._fetch_all(small, commit, sizes)
        check(open_checkpoint(folder, self.repository, commit))
        self._fetch_all(weights, commit, sizes)
        # Written last, so that the cache never calls a half-fetched revision the current one.
        _point(repository_folder(self.cache, self.repository) / "refs" / self.revision, commit)
        return folder

    def small(self) -> Survey:
        """The small files, and the names of those with code."""
        commit, sizes = self._listing()
        small, _ = needed(sizes)
        folder = self._begin(small, commit, sizes)
        self._fetch_all(small, commit, sizes)
        return Survey(folder, tuple(sorted(name for name in sizes if name.endswith(".py"))))

    def code(self) -> None:
        """The files with code."""
        commit, sizes = self._listing()
        names = sorted(name for name in sizes if name.endswith(".py"))
        self._begin(names, commit, sizes)
        self._fetch_all(names, commit, sizes)

    def _listing(self) -> tuple[str, dict[str, int]]:
        """The commit that the revision stands for, and the sizes of its files."""
        from huggingface_hub import HfApi, constants
        from huggingface_hub.utils import logging

        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        # Ten megabytes at once, the default, look like a standstill on a slow line.
        constants.DOWNLOAD_CHUNK_SIZE = 256 * 1024
        info = HfApi(self.endpoint, token=self._token).model_info(
            self.repository, revision=self.revision, timeout=ANSWER_SECONDS, files_metadata=True
        )
        return str(info.sha), {s.rfilename: s.size or 0 for s in info.siblings or ()}

    def _begin(self, names: Sequence[str], commit: str, sizes: Mapping[str, int]) -> Path:
        """Note how much will come and that there is room for it; returns where it goes."""
        folder = repository_folder(self.cache, self.repository) / "snapshots" / commit
        self.total = sum(sizes[name] for name in names)
        self.events.put(0)
        _require_space(self.cache, sum(sizes[n] for n in names if not (folder / n).exists()))
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

        if not names:
            return
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
            self.repository,
            name,
            revision=commit,
            cache_dir=self.cache,
            endpoint=self.endpoint,
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
