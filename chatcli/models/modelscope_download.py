"""Fetch a model's files from ModelScope into its cache, through modelscope_hub, the extra `chatcli[modelscope]`.

The package makes the requests and goes on where an earlier try stopped. This module judges no file's content.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from chatcli.errors import BrokenCheckpoint, ChatcliError, ModelError, ModelNotFound, ModelUnreachable
from chatcli.models.cache import needed
from chatcli.models.checkpoint import Checkpoint, open_checkpoint
from chatcli.models.modelscope import REVISION, cache_folder
from chatcli.models.refusals import disk_error, nothing_to_run
from chatcli.models.transfer import STREAMS, Report, Transfer


def download(
    name: str, revision: str, variables: Mapping[str, str], progress: Report, check: Callable[[Checkpoint], None]
) -> Path:
    """The folder that holds a model's files, after getting those that are missing from ModelScope.

    `check` sees the checkpoint before its weights are fetched and may raise.

    Raises:
        ModelError: modelscope_hub is not installed, the disk has no room.
        ModelNotFound, ModelUnreachable: what ModelScope says, or that it says nothing.
        BrokenCheckpoint: the repository holds nothing that could chat.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")  # its bars would stand in ours; tqdm looks when it is imported
    try:
        import modelscope_hub  # noqa: F401  it takes half a second, and the threads need it
    except ImportError:
        raise ModelError(
            'Downloads from ModelScope need a package that is not installed: pip install "chatcli[modelscope]".'
        ) from None
    source = _ModelScope(name, revision or REVISION, cache_folder(variables), variables)
    return source.transfer.watch(lambda: source.model(check), progress, source)


class _ModelScope:
    """One revision of a model on ModelScope. `model` runs beside the caller, who watches `transfer`."""

    def __init__(self, name: str, revision: str, cache: Path, variables: Mapping[str, str]) -> None:
        import logging

        from modelscope_hub import HubApi

        logging.getLogger("modelscope_hub").setLevel(logging.CRITICAL)  # it tells of every retry on standard error
        self.name, self.revision, self.cache = name, revision, cache
        self.endpoint = variables.get("MODELSCOPE_ENDPOINT") or "https://modelscope.cn"
        self.title = f"ModelScope ({self.endpoint})"
        self.transfer = Transfer()
        self._api = HubApi(endpoint=self.endpoint, token=variables.get("MODELSCOPE_API_TOKEN"))

    def model(self, check: Callable[[Checkpoint], None]) -> Path:
        """All files that a chat needs; `check` sees the small ones before the weights are fetched."""
        sizes = {f.path: f.size or 0 for f in self._api.list_repo_files(self.name, "model", revision=self.revision)}
        small, weights = needed(sizes)
        if not weights or "config.json" not in small:
            raise BrokenCheckpoint(nothing_to_run(self.name, sizes))
        self.transfer.begin({name: sizes[name] for name in (*small, *weights)}, {})
        folder = self._fetch(small)
        check(open_checkpoint(folder, self.name, self.revision))
        return self._fetch(weights)

    def _fetch(self, names: list[str]) -> Path:
        """Get files, those that were begun from where they stopped, which modelscope_hub does by itself."""
        for name in names:
            self.transfer.arrived(name, 0)
        return Path(
            self._api.download_repo(
                self.name,
                "model",
                revision=self.revision,
                cache_dir=self.cache,
                allow_patterns=names,
                max_workers=STREAMS,
                progress_callbacks=[_callback(self.transfer)],
            )
        )

    def explained(self, error: BaseException) -> ChatcliError:
        """One sentence for whatever modelscope_hub raised."""
        from modelscope_hub import errors

        if isinstance(error, ChatcliError):
            return error
        if found := disk_error(error, self.cache, "MODELSCOPE_CACHE"):
            return found
        if isinstance(error, errors.NotExistError):
            return ModelNotFound(f"ModelScope has no model {self.name}, or it has no revision {self.revision}.")
        reason = (str(error) or type(error).__name__).strip().partition("\n")[0][:200]
        return ModelUnreachable(
            f"The download of {self.name} from {self.title} failed ({reason}): try again, it goes on where it stopped."
        )


def _callback(told: Transfer) -> type[Any]:
    """What modelscope_hub makes one of for every file, to tell of its bytes."""
    from modelscope_hub import ProgressCallback

    class Callback(ProgressCallback):
        def update(self, size: int) -> None:
            told.arrived(self.filename, size)

        def end(self) -> None:
            told.arrived(self.filename, self.file_size)

    return Callback
