"""What a plan needs to know of a checkpoint: its config.json and its tensors' headers, from the disk or from the Hub.

From the Hub by ranges: some kilobytes of each weight file. huggingface_hub makes the requests; no weight is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatcli.errors import BrokenCheckpoint, ModelUnreachable
from chatcli.generation import Progress
from chatcli.models import gguf_choice
from chatcli.models.cache import needed
from chatcli.models.checkpoint import Checkpoint, open_checkpoint
from chatcli.models.naming import HubName
from chatcli.models.plan.values import amount
from chatcli.models.refusals import explained, nothing_to_run
from chatcli.models.transfer import Report
from chatcli.models.weights import Tensor, weights

if TYPE_CHECKING:
    from huggingface_hub import HfApi

ANSWER_SECONDS = 10.0
"""How long the Hub may take to answer each question."""
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Headers:
    """A model by its numbers. `tensors` is empty for `.bin` files, of which `stored_bytes` is all that is known."""

    name: str
    revision: str
    config: Mapping[str, Any]
    stored_bytes: int
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    on_disk: bool = True


def headers_on_disk(checkpoint: Checkpoint) -> Headers:
    """The headers of a checkpoint whose weights are here.

    Raises:
        BrokenCheckpoint: they are not, or they are damaged.
    """
    found = weights(checkpoint)
    return Headers(checkpoint.name, checkpoint.revision, checkpoint.config, found.bytes, found.tensors)


def headers_on_hub(
    wanted: HubName, revision: str, cache: Path, variables: Mapping[str, str], report: Report
) -> Headers:
    """The headers of a model that is not downloaded; its config.json goes to the cache. `report` hears of each file.

    Raises:
        ModelNotFound, ModelGated, ModelUnreachable: what the Hub says, or that it says nothing.
        BrokenCheckpoint: the repository holds nothing that could chat.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    endpoint = (variables.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    try:
        hub = HfApi(endpoint, token=variables.get("HF_TOKEN") or None)
        return _asked(hub, wanted, revision, cache, report)
    except Exception as error:
        raise explained(error, wanted.repository, revision, endpoint, cache) from error


def _asked(hub: HfApi, wanted: HubName, revision: str, cache: Path, report: Report) -> Headers:
    repository = wanted.repository
    info = hub.model_info(repository, revision=revision, timeout=ANSWER_SECONDS, files_metadata=True)
    commit, prefix = str(info.sha), f"{wanted.subfolder}/" if wanted.subfolder else ""
    sizes = {
        s.rfilename.removeprefix(prefix): s.size or 0 for s in info.siblings or () if s.rfilename.startswith(prefix)
    }
    small, files = needed(sizes)
    if wanted.file or (not files and gguf_choice.models(sizes)):
        chosen = gguf_choice.choose(str(wanted), sizes, wanted.file)
        raise ModelUnreachable(
            f"{chosen} of {wanted.repository} ({amount(sizes[chosen])}) is a GGUF file, which can be weighed once it "
            f"is here: chatcli pull {wanted}."
        )
    if not files or "config.json" not in small:
        raise BrokenCheckpoint(nothing_to_run(str(wanted), sizes))
    path = hub.hf_hub_download(
        repository, f"{prefix}config.json", revision=commit, cache_dir=cache, etag_timeout=ANSWER_SECONDS
    )
    config = open_checkpoint(Path(path).parent, repository, commit).config
    total = sum(sizes[name] for name in files)
    if not files[0].endswith(".safetensors"):
        return Headers(repository, commit, config, total, on_disk=False)

    def read(name: str) -> dict[str, Tensor]:
        found = hub.parse_safetensors_file_metadata(
            repository, f"{prefix}{name}", revision=commit, timeout=ANSWER_SECONDS
        )
        return {
            tensor: Tensor(str(each.dtype), tuple(each.shape), each.data_offsets[1] - each.data_offsets[0])
            for tensor, each in found.tensors.items()
        }

    tensors: dict[str, Tensor] = {}
    pool = ThreadPoolExecutor(_AT_ONCE, "headers")
    try:
        for done, part in enumerate(pool.map(read, files), 1):
            tensors |= part
            report(Progress("reading headers", done, len(files), "files"))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return Headers(repository, commit, config, total, tensors, on_disk=False)
