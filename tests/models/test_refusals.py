import errno
from pathlib import Path

import pytest

from chatcli.errors import ChatcliError, ModelError, ModelGated, ModelNotFound, ModelUnreachable
from chatcli.models.refusals import explained


class TransportError(Exception):
    """Named as httpx names its own, since two packages carry it."""


class TimeoutException(TransportError):
    pass


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ModelError, "is full"),
        (PermissionError(errno.EACCES, "Permission denied"), ModelError, "cannot be written to"),
        (TimeoutException("read"), ModelUnreachable, "did not answer in time"),
        (ConnectionResetError("reset"), ModelUnreachable, "cannot be reached"),
        (OSError("Consistency check failed: file should be of size 9"), ModelUnreachable, "try again, it goes on"),
        (RuntimeError("first line\nsecond line"), ModelUnreachable, r"failed \(first line\)"),
        (ModelGated("as it is."), ModelGated, "as it is"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_every_fault_is_one_sentence(error: Exception, kind: type[ChatcliError], says: str, wrapped: bool) -> None:
    if wrapped and type(error) is not RuntimeError and "Consistency" not in str(error):
        outer = ValueError("of a library")
        outer.__cause__ = error
    else:
        outer = error
    found = explained(outer, "org/chat", "main", "https://hub", Path("/cache"))
    assert type(found) is kind
    with pytest.raises(kind, match=says):
        raise found
    assert "\n" not in str(found)


def test_a_bad_token_is_told_from_a_missing_model() -> None:
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    class Response:
        headers: dict[str, str] = {}  # noqa: RUF012
        request = None

        def __init__(self, status: int) -> None:
            self.status_code = status

    def said(error: Exception) -> ChatcliError:
        return explained(error, "org/chat", "main", "https://hub", Path("/cache"))

    assert isinstance(said(HfHubHTTPError("no", response=Response(401))), ModelGated)
    assert isinstance(said(RepositoryNotFoundError("no", response=Response(401))), ModelNotFound)
