"""What the Hub's, the network's and the disk's errors mean to a person: each becomes one sentence.

It makes no request and touches no file.
"""

from __future__ import annotations

import errno
from collections.abc import Collection
from pathlib import Path

from chatcli.errors import ChatcliError, ModelError, ModelGated, ModelNotFound, ModelUnreachable
from chatcli.models import gguf_choice
from chatcli.models.purposes import PURPOSES

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def nothing_to_run(repository: str, files: Collection[str]) -> str:
    """Why a repository without weights of ours cannot be run."""
    if "model_index.json" in files:
        return f"{repository} is {PURPOSES['image generator']}; it does not chat: try Qwen/Qwen3-0.6B, for one."
    if gguf_choice.models(files):
        return f"{repository} holds GGUF files alone, which are read once they are here: `chatcli pull {repository}`."
    return f"{repository} holds no model in Hugging Face format (config.json with safetensors or .bin weights)."


def explained(error: BaseException, repository: str, revision: str, endpoint: str, cache: Path) -> ChatcliError:
    """One sentence for whatever the transfer ended with."""
    from huggingface_hub import errors

    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    page = f"{endpoint}/{repository}"
    for link in chain:
        if isinstance(link, ChatcliError):
            return link
        if isinstance(link, errors.GatedRepoError):
            return ModelGated(
                f"{repository} is gated: accept its terms at {page} and set HF_TOKEN to a token of your account."
            )
        if isinstance(link, errors.RevisionNotFoundError):
            return ModelNotFound(f"{repository} has no revision {revision}.")
        if isinstance(link, errors.RepositoryNotFoundError):
            return ModelNotFound(f"The Hub has no model {repository}, or it is private and HF_TOKEN is not set.")
        if isinstance(link, errors.HfHubHTTPError):
            return _refused(link.response.status_code, repository, endpoint, link.response.headers.get("Retry-After"))
        if found := disk_error(link, cache, "HF_HOME"):
            return found
    # httpx's errors by name: huggingface_hub 1 and 2 raise them from different packages.
    names = {kind.__name__ for link in chain for kind in type(link).__mro__}
    if names & {"ConnectError", "TransportError", "ConnectionError", "OfflineModeIsEnabled"}:
        said = "did not answer in time" if "TimeoutException" in names else "cannot be reached"
        return ModelUnreachable(
            f"The Hub ({endpoint}) {said}, and {repository} is not on this machine: check the network and try again."
        )
    reason = (str(error) or type(error).__name__).strip().partition("\n")[0][:200]
    return ModelUnreachable(f"The download of {repository} failed ({reason}): try again, it goes on where it stopped.")


def disk_error(error: BaseException, cache: Path, variable: str) -> ModelError | None:
    """The sentence for a disk that takes no more, or None; `variable` is what moves the `cache` elsewhere."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return ModelError(f"The disk of {cache} is full: free some space, or set {variable} to another disk.")
    if isinstance(error, (PermissionError, NotADirectoryError, FileExistsError)):
        return ModelError(f"{cache} cannot be written to: set {variable} to a folder of yours.")
    return None


def _refused(status: int, repository: str, endpoint: str, wait: str | None) -> ChatcliError:
    if status == 401:
        return ModelGated(f"The Hub does not accept the token in HF_TOKEN for {repository}: renew it.")
    if status == 403:
        return ModelGated(f"The Hub forbids to read {repository}: set HF_TOKEN to a token that may.")
    if status == 404:
        return ModelNotFound(f"The Hub has no model {repository}.")
    if status == 429:
        minutes = f"{(int(wait) + 59) // 60} minutes" if wait and wait.isdecimal() else "some minutes"
        return ModelUnreachable(f"The Hub ({endpoint}) got too many requests from here: wait {minutes}.")
    return ModelUnreachable(f"The Hub ({endpoint}) has a fault of its own (HTTP {status}): try again later.")
